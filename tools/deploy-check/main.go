// Deploycheck reads deploy/ the way its users' tools do: the compose file through the loader of Docker Compose, the Helm
// chart through Helm's own linter and template engine, and every rendered object strictly into the types of the Kubernetes
// API. It starts nothing, needs no cluster and no container engine, and must not know what the product does.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: deploycheck DEPLOY_DIRECTORY")
		os.Exit(2)
	}
	folder := os.Args[1]
	found, err := checkCompose(filepath.Join(folder, "compose.yaml"))
	right := report("compose.yaml", found, err)
	for _, values := range variants {
		found, err := checkChart(filepath.Join(folder, "helm", "alpes"), values.values)
		right = report("helm/alpes, "+values.name, found, err) && right
	}
	if !right {
		os.Exit(1)
	}
}

func report(what string, found []string, err error) bool {
	if err != nil {
		fmt.Printf("FAIL  %s: %v\n", what, err)
		return false
	}
	fmt.Printf("ok    %s: %s\n", what, strings.Join(found, ", "))
	return true
}
