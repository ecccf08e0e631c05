package main

import (
	"context"
	"fmt"

	"github.com/compose-spec/compose-go/v2/cli"
)

// checkCompose loads the file as `docker compose config` does: interpolation, schema, references between services.
func checkCompose(path string) ([]string, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("alpes"))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range project.ServiceNames() {
		service := project.Services[name]
		// one that ends by itself is waited for by its end
		watched := service.HealthCheck != nil && !service.HealthCheck.Disable
		if !watched && service.Restart != "no" {
			return nil, fmt.Errorf("service %s has no health check", name)
		}
		image := service.Image
		if image == "" {
			image = "built"
		}
		found = append(found, fmt.Sprintf("service %s (%s)", name, image))
	}
	return found, nil
}
