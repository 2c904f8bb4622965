package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// command is one line of standard input.
type command struct {
	ID        int64           `json:"id"`
	Do        string          `json:"do"`
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Object    json.RawMessage `json:"object"`
	// Strings of any meaning: finalizers, for one.
	List []string `json:"list"`
}

type doing func(command) (any, error)

var output struct {
	sync.Mutex
	*json.Encoder
}

func init() {
	output.Encoder = json.NewEncoder(os.Stdout)
}

func say(line map[string]any) {
	output.Lock()
	defer output.Unlock()
	if err := output.Encode(line); err != nil {
		fmt.Fprintln(os.Stderr, "nobody listens:", err)
		os.Exit(1)
	}
}

func report(event string, fields map[string]any) {
	fields["event"] = event
	say(fields)
}

// obey answers commands, each on its own, until standard input ends.
func obey(commands map[string]doing) error {
	report("ready", map[string]any{})
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	decoder := json.NewDecoder(in)
	for decoder.More() {
		var next command
		if err := decoder.Decode(&next); err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		do, known := commands[next.Do]
		if !known {
			answer(next.ID, nil, fmt.Errorf("unknown command %q", next.Do))
			continue
		}
		go func() {
			result, err := do(next)
			answer(next.ID, result, err)
		}()
	}
	return nil
}

func answer(id int64, result any, err error) {
	line := map[string]any{"id": id}
	if err == nil {
		line["ok"] = result
		say(line)
		return
	}
	line["error"] = err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		line["code"], line["reason"] = status.Status().Code, status.Status().Reason
	}
	say(line)
}

func parse[T any](raw json.RawMessage) (*T, error) {
	value := new(T)
	if err := json.Unmarshal(raw, value); err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	return value, nil
}
