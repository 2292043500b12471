package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
)

// matchGPUs puts the model that nodes have for the type of GPU that was asked for: "a100" in Slurm's
// words is NVIDIA-A100-SXM4-80GB in the driver's.
func (c *call) matchGPUs(ctx context.Context, client *gang.Client, s *spec.Spec) error {
	typed := func(l spec.Label) bool {
		return l.Key == "gpu" && l.Value != "" && !strings.ContainsAny(l.Value, "!(") // an expression is meant as it is
	}
	if !slices.ContainsFunc(s.Labels, typed) {
		return nil
	}
	reply, _, err := ask[stateNodes](ctx, c, client, "nodes", "")
	if err != nil {
		return err
	}
	var models []string
	for _, n := range reply.Nodes {
		if m := n.Labels["gpu"]; m != "" && !slices.Contains(models, m) {
			models = append(models, m)
		}
	}
	slices.Sort(models)
	for i, l := range s.Labels {
		if !typed(l) {
			continue
		}
		var fit []string
		for _, m := range models {
			if isModel(l.Value, m) {
				fit = append(fit, m)
			}
		}
		switch {
		case len(fit) == 1:
			s.Labels[i].Value = fit[0]
		case len(fit) > 1:
			s.Labels[i].Value = "in(" + strings.Join(fit, ",") + ")"
		case len(reply.Missing) > 0: // it may be that of a node that is still to come
		case len(models) == 0:
			return &Fault{Name: "INFEASIBLE", What: c.page.name, Why: "GPUs of type " + l.Value + " are asked for, and no node says of what type its GPUs are", Do: "ask for a number alone; `maniple nodes` shows what there is"}
		default:
			return &Fault{Name: "INFEASIBLE", What: c.page.name, Why: "no node has GPUs of type " + l.Value, Do: "there are " + strings.Join(models, ", ")}
		}
	}
	return nil
}

// isModel tells whether a type in Slurm's words is a model in the driver's: all words of the type are
// among the model's, or it is some of those in a row, written as one (rtx3090).
func isModel(kind, model string) bool {
	words := func(s string) []string {
		return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == '-' || r == '_' || r == ' ' })
	}
	have, want := words(model), words(kind)
	if len(want) > 0 && !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) }) {
		return true
	}
	whole := strings.Join(want, "")
	for i := range have {
		for j := i + 1; j <= len(have); j++ {
			if strings.Join(have[i:j], "") == whole {
				return true
			}
		}
	}
	return false
}
