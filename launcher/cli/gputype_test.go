package cli

import "testing"

func TestTypesOfGPUs(t *testing.T) {
	for _, tt := range []struct {
		kind, model string
		want        bool
	}{
		{"a100", "NVIDIA-A100-SXM4-80GB", true},
		{"A100", "NVIDIA-A100-SXM4-80GB", true},
		{"a100_80gb", "NVIDIA-A100-SXM4-80GB", true},
		{"nvidia_a100", "NVIDIA-A100-SXM4-80GB", true},
		{"h100", "NVIDIA-H100-80GB-HBM3", true},
		{"rtx3090", "NVIDIA-GeForce-RTX-3090", true},
		{"rtx_3090", "NVIDIA-GeForce-RTX-3090", true},
		{"a100_3g.20gb", "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", true},
		{"mi250x", "AMD-Instinct-MI250X", true},
		{"a10", "NVIDIA-A100-SXM4-80GB", false},
		{"h100", "NVIDIA-A100-SXM4-80GB", false},
		{"rtx3090", "NVIDIA-GeForce-RTX-3090-Ti", true}, // a word less is less exact
		{"rtx3090ti", "NVIDIA-GeForce-RTX-3090", false},
		{"", "NVIDIA-A100", false},
		{"-", "NVIDIA-A100", false},
	} {
		if got := isModel(tt.kind, tt.model); got != tt.want {
			t.Errorf("%s is %s: %v", tt.kind, tt.model, got)
		}
	}
}
