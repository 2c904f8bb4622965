#!/usr/bin/env bash
# A RabbitMQ of your own, set up as that of Fedora Messaging: TLS with client certificates, rights by topic.
# Usage: broker.sh start|stop|secret|queue [DIR]     DIR keeps everything; it is ./fedora-broker by default.
# Needs the packages rabbitmq-server and openssl (Debian: apt-get install rabbitmq-server openssl), and no rights of root.
set -euo pipefail
command=${1:-}
dir=$(realpath -m "${2:-fedora-broker}")
port=${PORT:-25671}
bin=${RABBITMQ_BIN:-/usr/lib/rabbitmq/bin} # the scripts themselves: the wrappers in /usr/sbin change the user

environment() {
  export HOME=$dir/home RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_NODENAME=fedora-example@localhost \
    RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf \
    RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins RABBITMQ_DIST_PORT=$((port + 28)) \
    ERL_EPMD_PORT=$((port - 1302)) ERL_EPMD_ADDRESS=127.0.0.1 RUNNING_UNDER_SYSTEMD=1 LANG=C.UTF-8 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
}

certificates() (
  cd "$dir/certs"
  [ ! -s server.pem ] || exit 0
  umask 077
  curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  openssl req -x509 "${curve[@]}" -days 365 -subj "/CN=example CA" -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE
  leaf() {
    openssl req "${curve[@]}" -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
    printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\n%s\n' "$3" "${4:-}" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.pem"
  }
  leaf server localhost serverAuth "subjectAltName=DNS:localhost,IP:127.0.0.1"
  leaf client example-publisher clientAuth
) 2>/dev/null

configuration() {
  cat >"$dir/rabbitmq.conf" <<C
listeners.tcp = none
listeners.ssl.default = 127.0.0.1:$port
ssl_options.cacertfile = $dir/certs/ca.pem
ssl_options.certfile = $dir/certs/server.pem
ssl_options.keyfile = $dir/certs/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = EXTERNAL
ssl_cert_login_from = common_name
log.file = false
log.console = true
load_definitions = $dir/definitions.json
C
  echo '[rabbitmq_auth_mechanism_ssl].' >"$dir/enabled_plugins"
  cat >"$dir/definitions.json" <<'C'
{"users":[{"name":"example-publisher","password_hash":"","hashing_algorithm":"rabbit_password_hashing_sha256","tags":[]}],
"vhosts":[{"name":"/"},{"name":"/pubsub"}],
"permissions":[{"user":"example-publisher","vhost":"/pubsub","configure":"^$","write":"^amq\\.topic$","read":"^$"}],
"topic_permissions":[{"user":"example-publisher","vhost":"/pubsub","exchange":"amq.topic","write":"^org\\.fedoraproject\\.(stg|prod)\\..*","read":".*"}],
"exchanges":[],"parameters":[],"policies":[],
"queues":[{"name":"everything","vhost":"/pubsub","durable":true,"auto_delete":false,"arguments":{}}],
"bindings":[{"source":"amq.topic","vhost":"/pubsub","destination":"everything","destination_type":"queue","routing_key":"#","arguments":{}}]}
C
}

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

start() {
  mkdir -p "$dir"/{home,data,log,certs}
  certificates
  configuration
  if ! running; then
    (environment; exec setsid "$bin/rabbitmq-server" >"$dir/log/console.log" 2>&1 </dev/null) &
    echo $! >"$dir/pid"
  fi
  for _ in $(seq 900); do
    if openssl s_client -connect "127.0.0.1:$port" -cert "$dir/certs/client.pem" -key "$dir/certs/client.key" </dev/null >/dev/null 2>&1; then
      echo "The broker listens on amqps://localhost:$port/%2Fpubsub; its certificates are in $dir/certs."
      return
    fi
    running || { tail "$dir/log/console.log" >&2; exit 1; }
    sleep 0.1
  done
  echo "The broker does not listen; see $dir/log/console.log" >&2
  exit 1
}

stop() {
  if running; then
    kill -TERM "$(cat "$dir/pid")"
    for _ in $(seq 300); do running || break; sleep 0.1; done
  fi
  rm -f "$dir/pid"
  # Our own directory of Erlang nodes, at our own port.
  (environment; epmd -kill >/dev/null 2>&1) || true
}

# The secret that the example names, as a manifest.
secret() {
  encoded() { base64 -w0 <"$dir/certs/$1"; }
  cat <<C
apiVersion: v1
kind: Secret
metadata:
  name: fedora-messaging-certs
  namespace: default
data:
  ca: $(encoded ca.pem)
  cert: $(encoded client.pem)
  key: $(encoded client.key)
C
}

case $command in
  start | stop | secret) "$command" ;;
  queue) environment; exec "$bin/rabbitmqctl" -q list_queues -p /pubsub name messages ;;
  *) sed -n 2,4p "$0" >&2; exit 2 ;;
esac
