package verify

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mooncore/mooncore/internal/needs"
)

// drain is what the server may take to stop: Config.ShutdownTimeout. TestTheImageRunsInAnEmptyRoot compares.
const drain = 25 * time.Second

// nineTenths reports whether a soft limit, as GOMEMLIMIT spells it, is 85 to 95 % of a hard one in bytes.
func nineTenths(t *testing.T, soft string, hard int64) bool {
	t.Helper()
	q, err := resource.ParseQuantity(strings.TrimSuffix(soft, "B"))
	if err != nil {
		t.Fatalf("GOMEMLIMIT %q: %v", soft, err)
	}
	share := float64(q.Value()) / float64(hard)
	return share >= 0.85 && share <= 0.95
}

func TestCompose(t *testing.T) {
	load := func(text string) (*types.Project, error) {
		details := types.ConfigDetails{
			WorkingDir:  deploy,
			ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(text)}},
		}
		return loader.LoadWithContext(t.Context(), details)
	}
	text := readFile(t, "compose.yaml")
	project, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load(replace(t, text, "stop_grace_period", "stop_grace")); err == nil {
		t.Error("a misspelt key is not found")
	}
	if _, err := load(replace(t, text, "secrets: [database_url, ", "secrets: [data_base_url, ")); err == nil {
		t.Error("a secret that is none is not found")
	}

	tasks, err := project.GetService("tasks")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tasks.Build.Context, tasks.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	if grace := time.Duration(*tasks.StopGracePeriod); grace < drain+5*time.Second {
		t.Errorf("stop_grace_period %v leaves no time beyond the drain, %v", grace, drain)
	}
	if soft, hard := *tasks.Environment["GOMEMLIMIT"], int64(tasks.Deploy.Resources.Limits.MemoryBytes); !nineTenths(t, soft, hard) {
		t.Errorf("GOMEMLIMIT %s is not nine tenths of %d", soft, hard)
	}
	for _, variable := range []string{"DATABASE_URL_FILE", "JWT_PRIVATE_KEY_FILE"} {
		name := strings.TrimPrefix(*tasks.Environment[variable], "/run/secrets/")
		if _, ok := project.Secrets[name]; !ok {
			t.Errorf("%s names the secret %q, which is not declared", variable, name)
		}
	}
}

func TestKubernetes(t *testing.T) {
	deployment, service, policy := new(appsv1.Deployment), new(corev1.Service), new(networkingv1.NetworkPolicy)
	objects := map[string]any{"Deployment": deployment, "Service": service, "NetworkPolicy": policy}
	decode := func(text string) error {
		for document := range strings.SplitSeq(text, "\n---\n") {
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				return err
			}
			text, err := yaml.YAMLToJSONStrict([]byte(document))
			if err != nil {
				return err
			}
			faults, err := json.UnmarshalStrict(text, objects[kind.Kind]) // as the API server does for kubectl apply
			if err := errors.Join(append(faults, err)...); err != nil {
				return err
			}
		}
		return nil
	}
	text := readFile(t, "kubernetes.yaml")
	for _, misspelt := range [][2]string{{"preStop", "prestop"}, {"failureThreshold", "failures"}, {"seconds: 5", "seconds: 5s"}, {"targetPort", "target_port"}} {
		if err := decode(replace(t, text, misspelt[0], misspelt[1])); err == nil {
			t.Errorf("%s is not found to be no field", misspelt[1])
		}
	}
	if err := decode(text); err != nil {
		t.Fatal(err)
	}

	pod := deployment.Spec.Template.Spec
	container := pod.Containers[0]
	grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	pause := time.Duration(container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if grace < pause+drain+5*time.Second {
		t.Errorf("terminationGracePeriodSeconds %v leaves no time beyond preStop, %v, and the drain, %v", grace, pause, drain)
	}
	env := map[string]string{}
	for _, v := range container.Env {
		env[v.Name] = v.Value
	}
	if soft, hard := env["GOMEMLIMIT"], container.Resources.Limits.Memory().Value(); !nineTenths(t, soft, hard) {
		t.Errorf("GOMEMLIMIT %s is not nine tenths of %d", soft, hard)
	}
	for name, path := range map[string]string{
		container.LivenessProbe.HTTPGet.Path: "/livez", container.StartupProbe.HTTPGet.Path: "/livez", container.ReadinessProbe.HTTPGet.Path: "/readyz",
	} {
		if name != path {
			t.Errorf("a probe asks %s, want %s", name, path)
		}
	}
	if port := container.Ports[0]; port.ContainerPort != 4000 || service.Spec.Ports[0].TargetPort.StrVal != port.Name || container.ReadinessProbe.HTTPGet.Port.StrVal != port.Name {
		t.Errorf("port %+v, service %+v", port, service.Spec.Ports[0])
	}
	for i, rule := range policy.Spec.Ingress {
		if port := container.Ports[i]; rule.Ports[0].Port.StrVal != port.Name || (port.Name == "inner") != (len(rule.From) > 0) {
			t.Errorf("the policy opens %v to %v", rule.Ports[0].Port, rule.From)
		}
	}
	labels := deployment.Spec.Template.Labels
	for _, selector := range []map[string]string{deployment.Spec.Selector.MatchLabels, service.Spec.Selector, policy.Spec.PodSelector.MatchLabels} {
		for name, value := range selector {
			if labels[name] != value {
				t.Errorf("the pods have no label %s=%s", name, value)
			}
		}
	}
	if mode := *pod.Volumes[0].Secret.DefaultMode; mode != 0o400 {
		t.Errorf("the secrets have mode %o", mode)
	}
	stages, err := parseDockerfile()
	if err != nil {
		t.Fatal(err)
	}
	b := &imageBuild{}
	for _, command := range stages[len(stages)-1].Commands {
		if command.Name() == "USER" {
			if err := b.do(command, "", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if uid := *pod.SecurityContext.RunAsUser; uid != int64(b.user) || uid == 0 {
		t.Errorf("runAsUser %d, the image's user is %d", uid, b.user)
	}
}

func TestSystemdUnit(t *testing.T) {
	analyze := needs.Command(t, "systemd-analyze", "systemd")
	text := replace(t, readFile(t, "tasks@.service"), "/usr/local/bin/tasks", "/bin/true") // it must exist
	verify := func(text string) string {
		file := filepath.Join(t.TempDir(), "tasks@4001.service")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", file).CombinedOutput()
		if err != nil {
			return err.Error() + string(out)
		}
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", file).CombinedOutput(); err != nil {
			return err.Error() + string(out) // its exposure, from 0 to 10, is above 1.5
		}
		return string(out)
	}
	if problems := verify(text); problems != "" {
		t.Error(problems)
	}
	for _, bad := range [][2]string{{"TimeoutStopSec=30", "TimeoutStopSec=soon"}, {"LockPersonality", "LockPersonalty"}, {"DynamicUser=yes", "DynamicUser=no"}, {"/bin/true", "/bin/nothing"}} {
		if verify(replace(t, text, bad[0], bad[1])) == "" {
			t.Errorf("%s is found to be good", bad[1])
		}
	}

	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
			if name == "Environment" {
				for pair := range strings.FieldsSeq(value) {
					name, value, _ := strings.Cut(pair, "=")
					values[name] = value
				}
			}
		}
	}
	if stop, err := time.ParseDuration(values["TimeoutStopSec"] + "s"); err != nil || stop < drain+5*time.Second {
		t.Errorf("TimeoutStopSec %v leaves no time beyond the drain, %v (%v)", stop, drain, err)
	}
	hard, err := resource.ParseQuantity(values["MemoryMax"] + "i")
	if err != nil || !nineTenths(t, values["GOMEMLIMIT"], hard.Value()) {
		t.Errorf("GOMEMLIMIT %s is not nine tenths of %s (%v)", values["GOMEMLIMIT"], values["MemoryMax"], err)
	}
}
