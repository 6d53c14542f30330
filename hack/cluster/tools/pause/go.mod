module opt-operator.io/hack/tools/pause

go 1.21
