package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const deploy = "../../deploy"

// A check that has never failed proves nothing: each of these must be found, in the words that it names.
func TestPlantedViolationsInTheChartAreFound(t *testing.T) {
	planted := []struct{ file, from, to, says string }{
		{"api.yaml", "terminationGracePeriodSeconds", "terminationGraceSeconds", `unknown field "spec.template.spec.terminationGraceSeconds"`},
		{"api.yaml", "containerPort: 8080", "containerPort: http", "cannot unmarshal string"},
		{"api.yaml", "kind: Deployment", "kind: Deploymant", `no kind "Deploymant"`},
		{"api.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"},
		{"api.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can be written"},
		{"worker.yaml", "readinessProbe:", "x: &x", "unknown field"},
		{"worker.yaml", "component: worker", "component: api", "of 2 Deployments"},
		{"service.yaml", "component: api", "component: apis", "of 0 Deployments"},
		{"disruption.yaml", "component: api", "component: apis", "of 0 Deployments"},
		{"autoscaler.yaml", "name: alpes-api\n  minReplicas", "name: alpes\n  minReplicas", "not there"},
		{"autoscaler.yaml", "apiVersion: autoscaling/v2", "apiVersion: autoscaling/v2beta9", "no kind"},
	}
	for _, plant := range planted {
		files, err := render(filepath.Join(deploy, "helm", "alpes"), map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		name := "alpes/templates/" + plant.file
		changed := strings.ReplaceAll(files[name], plant.from, plant.to)
		if changed == files[name] {
			t.Errorf("%s: nothing to plant: it does not say %q", plant.file, plant.from)
		}
		files[name] = changed
		if _, err := checkObjects(files); err == nil || !strings.Contains(err.Error(), plant.says) {
			t.Errorf("%s: %q became %q and was answered with %v, not with %q", plant.file, plant.from, plant.to, err, plant.says)
		}
	}
}

func TestPlantedViolationsInTheComposeFileAreFound(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deploy, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	planted := []struct{ from, to, says string }{
		{"restart: unless-stopped", "restarts: unless-stopped", "restarts"},
		{"migrate: { condition", "migration: { condition", "undefined service"},
		{"volumes:\n  postgres:\n", "volumes:\n", "undefined volume"},
		{"interval: 2s", "interval: often", "often"},
		{"test: [CMD, ready]", "disable: true", "no health check"},
	}
	for _, plant := range planted {
		changed := strings.ReplaceAll(string(text), plant.from, plant.to)
		if changed == string(text) {
			t.Errorf("nothing to plant: it does not say %q", plant.from)
		}
		path := filepath.Join(t.TempDir(), "compose.yaml")
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := checkCompose(path); err == nil || !strings.Contains(err.Error(), plant.says) {
			t.Errorf("%q became %q and was answered with %v, not with %q", plant.from, plant.to, err, plant.says)
		}
	}
}
