module drover.test/peers/ocm-api

go 1.26.0

require open-cluster-management.io/api v1.2.0
