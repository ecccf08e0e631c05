package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

type variant struct {
	name   string
	values map[string]any
}

// variants are the settings with which the chart is rendered: the defaults, and everything that can be switched the other
// way round.
var variants = []variant{
	{"default values", map[string]any{}},
	{"everything switched", map[string]any{
		"api":              map[string]any{"autoscaling": map[string]any{"enabled": false}},
		"worker":           map[string]any{"replicas": 2},
		"pulsar":           map[string]any{"url": "pulsar://pulsar:6650"},
		"settings":         map[string]any{"ALPES_LOG": "debug"},
		"imagePullSecrets": []any{map[string]any{"name": "registry"}},
		"nodeSelector":     map[string]any{"disk": "fast"},
		"tolerations":      []any{map[string]any{"key": "alpes", "operator": "Exists"}},
	}},
}

// checkChart lints and renders the chart and reads every object strictly.
func checkChart(path string, values map[string]any) ([]string, error) {
	rendered, err := render(path, values)
	if err != nil {
		return nil, err
	}
	return checkObjects(rendered)
}

// render lints the chart and makes its files, as a first installation would.
func render(path string, values map[string]any) (map[string]string, error) {
	for _, message := range lint.All(path, values, "default", true).Messages {
		if message.Severity >= support.WarningSev {
			return nil, fmt.Errorf("helm lint: %s", message)
		}
	}
	chart, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	options := chartutil.ReleaseOptions{Name: "alpes", Namespace: "default", Revision: 1, IsInstall: true}
	context, err := chartutil.ToRenderValues(chart, values, options, nil)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(chart, context)
}

// checkObjects decodes the documents of rendered files, and follows the references between them.
func checkObjects(files map[string]string) ([]string, error) {
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var found []string
	var objects []runtime.Object
	var faults []error
	for _, name := range sorted(files) {
		if extension := filepath.Ext(name); extension != ".yaml" {
			continue
		}
		for _, document := range strings.Split(files[name], "\n---\n") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			object, kind, err := decoder.Decode([]byte(document), nil, nil)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", name, err))
				continue
			}
			objects = append(objects, object)
			found = append(found, fmt.Sprintf("%s %s", kind.Kind, object.(meta.Object).GetName()))
		}
	}
	if len(objects) == 0 {
		faults = append(faults, errors.New("nothing was rendered"))
	}
	faults = append(faults, dangling(objects)...)
	return found, errors.Join(faults...)
}

// dangling are references that lead nowhere: types alone accept them, and a cluster does nothing for them.
func dangling(objects []runtime.Object) []error {
	var faults []error
	var pods []labels.Set
	deployments := map[string]bool{}
	for _, object := range objects {
		if deployment, is := object.(*apps.Deployment); is {
			deployments[deployment.Name] = true
			pods = append(pods, deployment.Spec.Template.Labels)
			faults = append(faults, selects("Deployment "+deployment.Name, deployment.Spec.Selector, pods[len(pods)-1:])...)
			faults = append(faults, hardened(deployment)...)
		}
	}
	for _, object := range objects {
		switch object := object.(type) {
		case *core.Service:
			selector := &meta.LabelSelector{MatchLabels: object.Spec.Selector}
			faults = append(faults, selects("Service "+object.Name, selector, pods)...)
		case *policy.PodDisruptionBudget:
			faults = append(faults, selects("PodDisruptionBudget "+object.Name, object.Spec.Selector, pods)...)
		case *autoscaling.HorizontalPodAutoscaler:
			if target := object.Spec.ScaleTargetRef; target.Kind != "Deployment" || !deployments[target.Name] {
				faults = append(faults, fmt.Errorf("HorizontalPodAutoscaler %s scales %s %s, which is not there", object.Name, target.Kind, target.Name))
			}
		}
	}
	return faults
}

// selects says whether a selector chooses the pods of exactly one Deployment.
func selects(who string, selector *meta.LabelSelector, pods []labels.Set) []error {
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return []error{fmt.Errorf("%s has no selector", who)}
	}
	parsed, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", who, err)}
	}
	matches := 0
	for _, set := range pods {
		if parsed.Matches(set) {
			matches++
		}
	}
	if matches != 1 {
		return []error{fmt.Errorf("%s selects the pods of %d Deployments, not of one", who, matches)}
	}
	return nil
}

// hardened says what a Deployment lacks: probes, and a container that can neither become root nor write its own files.
func hardened(deployment *apps.Deployment) []error {
	var faults []error
	lacks := func(what string) {
		faults = append(faults, fmt.Errorf("Deployment %s: %s", deployment.Name, what))
	}
	pod := deployment.Spec.Template.Spec
	if pod.SecurityContext == nil || pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot {
		lacks("may run as root")
	}
	for _, container := range pod.Containers {
		context := container.SecurityContext
		if context == nil || context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem {
			lacks("its root file system can be written")
		}
		if container.LivenessProbe == nil || container.ReadinessProbe == nil {
			lacks("has no liveness or no readiness probe")
		}
		if container.Resources.Requests.Memory().IsZero() || container.Resources.Limits.Memory().IsZero() {
			lacks("has no request or no limit of memory")
		}
	}
	return faults
}

func sorted(files map[string]string) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
