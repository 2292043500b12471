package gang

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// vars makes a map of an environment and fails on a name that comes twice.
func vars(t *testing.T, env []string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if _, twice := m[name]; !ok || twice {
			t.Fatalf("%q is no variable, or comes twice", kv)
		}
		m[name] = value
	}
	return m
}

func rankOf(base ...string) EnvInput {
	return EnvInput{
		Base: base, Cwd: "/work", Group: "7.1.1", Incarnation: 2, Rank: 5, LocalRank: 1, NodeRank: 2, World: 8, LocalWorld: 2, Nodes: 4,
		MasterAddr: "10.0.0.1", MasterPort: 20001, NodeName: "n3", NodeKey: "key", Address: "/s/agent.sock", Interface: "ib0", CPUs: 4,
	}
}

func TestEnv(t *testing.T) {
	nvidia := []Device{{"GPU-a", "nvidia"}, {"GPU-b", "nvidia"}}
	amd := []Device{{"0000:c1:00.0", "amd"}}
	four := []Device{{"GPU-a", "nvidia"}, {"1", "nvidia"}, {"MIG-GPU-c/1/0", "mig"}, {"3", "declared"}}
	const unset = "\x00"
	for _, tc := range []struct {
		name string
		base []string
		with func(*EnvInput)
		want map[string]string
	}{
		{"a rank", []string{"PATH=/bin", "HOME=/h"}, nil, map[string]string{
			"PATH": "/bin", "HOME": "/h", "PWD": "/work", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "2",
			"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "20001", "OMP_NUM_THREADS": "4", "GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "=ib0",
			"MANIPLE_ADDRESS": "/s/agent.sock", "MANIPLE_GROUP": "7.1.1", "MANIPLE_RANK": "5", "MANIPLE_INCARNATION": "2", "MANIPLE_RESTARTS": "1",
			"MANIPLE_NODE_KEY": "key", "GROUP_RANK": unset, "SLURM_PROCID": unset, "SLURM_NTASKS": unset, "CUDA_VISIBLE_DEVICES": unset,
		}},
		{"a driver", []string{"RANK=3", "WORLD_SIZE=9", "MASTER_PORT=1"}, func(in *EnvInput) { in.Driver = true }, map[string]string{
			"RANK": unset, "LOCAL_RANK": unset, "WORLD_SIZE": unset, "LOCAL_WORLD_SIZE": unset, "NODE_RANK": unset, "MASTER_ADDR": unset, "MASTER_PORT": unset,
			"MANIPLE_GROUP": "7.1.1", "MANIPLE_NODE_KEY": "key", "OMP_NUM_THREADS": "4",
		}},
		{"the user's own settings stay", []string{"OMP_NUM_THREADS=1", "GLOO_SOCKET_IFNAME=eth9", "NCCL_SOCKET_IFNAME=^lo"}, nil, map[string]string{
			"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth9", "NCCL_SOCKET_IFNAME": "^lo",
		}},
		{"ours replace the user's", []string{"RANK=1", "MASTER_PORT=29500"}, nil, map[string]string{"RANK": "5", "MASTER_PORT": "20001"}},
		{"without a held port the user's stays", []string{"MASTER_PORT=29500"}, func(in *EnvInput) { in.MasterPort = 0 }, map[string]string{"MASTER_PORT": "29500"}},
		{"a run inside a run", []string{"MANIPLE_GROUP=old", "MANIPLE_NODE_KEY=old", "MANIPLE_RANK=9", "MANIPLE_CLUSTER=mine"}, nil, map[string]string{
			"MANIPLE_GROUP": "7.1.1", "MANIPLE_NODE_KEY": "key", "MANIPLE_RANK": "5", "MANIPLE_CLUSTER": "mine",
		}},
		{"one mask", []string{"CUDA_VISIBLE_DEVICES=7", "ROCR_VISIBLE_DEVICES=7", "GPU_DEVICE_ORDINAL=7"}, func(in *EnvInput) {
			in.NodeDevices, in.Devices = nvidia, nvidia
		}, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b", "ROCR_VISIBLE_DEVICES": unset, "GPU_DEVICE_ORDINAL": unset}},
		{"one mask of AMD", []string{"CUDA_VISIBLE_DEVICES=7", "HIP_VISIBLE_DEVICES=7"}, func(in *EnvInput) {
			in.NodeDevices, in.Devices = amd, amd
		}, map[string]string{"ROCR_VISIBLE_DEVICES": "0000:c1:00.0", "CUDA_VISIBLE_DEVICES": unset, "HIP_VISIBLE_DEVICES": unset}},
		{"the first rank's own", nil, func(in *EnvInput) {
			in.NodeDevices, in.Devices, in.OwnDevices = nvidia, nvidia, 1
		}, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-a"}},
		{"the second rank's own", []string{"CUDA_VISIBLE_DEVICES=0,1", "HIP_VISIBLE_DEVICES=0,1"}, func(in *EnvInput) {
			in.NodeDevices, in.Devices, in.OwnDevices, in.OwnPlace = nvidia, nvidia, 1, 1
		}, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-b", "ROCR_VISIBLE_DEVICES": unset, "HIP_VISIBLE_DEVICES": unset}},
		{"two of four", nil, func(in *EnvInput) {
			in.NodeDevices, in.OwnDevices, in.OwnPlace = four, 2, 1
			in.Devices = four
		}, map[string]string{"CUDA_VISIBLE_DEVICES": "MIG-GPU-c/1/0,3"}},
		{"the whole of a bundle of one rank", nil, func(in *EnvInput) {
			in.NodeDevices, in.Devices, in.OwnDevices = four, four[2:], 2
		}, map[string]string{"CUDA_VISIBLE_DEVICES": "MIG-GPU-c/1/0,3"}},
		{"a rank's own of AMD", []string{"CUDA_VISIBLE_DEVICES=0"}, func(in *EnvInput) {
			in.NodeDevices, in.Devices, in.OwnDevices, in.OwnPlace = amd, append(amd, Device{"0000:c6:00.0", "amd"}), 1, 1
		}, map[string]string{"ROCR_VISIBLE_DEVICES": "0000:c6:00.0", "CUDA_VISIBLE_DEVICES": unset}},
		{"own GPUs on a node without any", []string{"CUDA_VISIBLE_DEVICES=0"}, func(in *EnvInput) { in.OwnDevices = 1 }, map[string]string{"CUDA_VISIBLE_DEVICES": "0"}},
		{"places beyond the devices", nil, func(in *EnvInput) {
			in.NodeDevices, in.Devices, in.OwnDevices, in.OwnPlace = nvidia, nvidia, 1<<31, 1<<31
		}, map[string]string{"CUDA_VISIBLE_DEVICES": ""}},
		{"GPUs that are not the bundle's are hidden", nil, func(in *EnvInput) { in.NodeDevices = nvidia }, map[string]string{"CUDA_VISIBLE_DEVICES": ""}},
		{"a node without GPUs hides nothing", []string{"CUDA_VISIBLE_DEVICES=0"}, nil, map[string]string{"CUDA_VISIBLE_DEVICES": "0"}},
		{"MPI's traces of our step", []string{"PMI_RANK=0", "PMI_FD=3", "PMIX_RANK=0", "PMIX_NAMESPACE=x", "PMI2_x=1", "PMIX_MCA_gds=hash", "OMPI_MCA_btl=tcp"}, nil, map[string]string{
			"PMI_RANK": unset, "PMI_FD": unset, "PMIX_RANK": unset, "PMIX_NAMESPACE": unset, "PMI2_x": unset, "PMIX_MCA_gds": "hash", "OMPI_MCA_btl": "tcp",
		}},
		{"a home that can't be written", []string{"HOME=/ro"}, func(in *EnvInput) { in.BadHome = "/ro" }, map[string]string{"HOME": "/work"}},
		{"another home", []string{"HOME=/scratch/me"}, func(in *EnvInput) { in.BadHome = "/ro" }, map[string]string{"HOME": "/scratch/me"}},
		{"values with = and newlines", []string{"A=b=c", "F=() {\n x\n}", "junk", "=x", "A=last"}, nil, map[string]string{"A": "last", "F": "() {\n x\n}"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := rankOf(tc.base...)
			if tc.with != nil {
				tc.with(&in)
			}
			env, _ := Env(in)
			got := vars(t, env)
			for name, want := range tc.want {
				value, have := got[name]
				if want == unset && have || want != unset && (!have || value != want) {
					t.Errorf("%s=%q (set: %v), want %q", name, value, have, want)
				}
			}
		})
	}
}

func TestEnvSaysWhatItDidToHome(t *testing.T) {
	in := rankOf("HOME=/ro")
	in.BadHome = "/ro"
	if _, notes := Env(in); len(notes) != 1 || !strings.Contains(notes[0], "HOME=/work") || !strings.Contains(notes[0], "n3") {
		t.Errorf("%q", notes)
	}
	if _, notes := Env(rankOf("HOME=/h")); notes != nil {
		t.Errorf("%q", notes)
	}
}

func TestEnvSaysWhatAMaskCanNotDo(t *testing.T) {
	for _, tc := range []struct {
		devices    []Device
		own, place uint32
		want       string
	}{
		{[]Device{{"GPU-a", "nvidia"}, {"GPU-b", "nvidia"}}, 0, 0, ""},
		{[]Device{{"GPU-a", "nvidia"}, {"GPU-b", "nvidia"}}, 1, 1, ""},
		{[]Device{{"MIG-a", "mig"}, {"MIG-b", "mig"}}, 1, 1, ""},
		{[]Device{{"MIG-a", "mig"}, {"MIG-b", "mig"}}, 0, 1, "--gpu-visibility=own"},
		{[]Device{{"GPU-a", "nvidia"}, {"MIG-b", "mig"}}, 2, 0, "one MIG slice"},
		{[]Device{{"GPU-a", "nvidia"}, {"GPU-b", "nvidia"}, {"GPU-c", "nvidia"}}, 2, 1, "should see 2 GPUs"},
	} {
		in := rankOf()
		in.NodeDevices, in.Devices, in.OwnDevices, in.OwnPlace = tc.devices, tc.devices, tc.own, tc.place
		_, notes := Env(in)
		if tc.want == "" && notes != nil || tc.want != "" && (len(notes) != 1 || !strings.Contains(notes[0], tc.want)) {
			t.Errorf("%v own %d: %q, want %q", tc.devices, tc.own, notes, tc.want)
		}
	}
}

// recorded are environments of a real Slurm: of a batch script, in salloc, in an array, in a step.
func recorded(t *testing.T) map[string][]string {
	t.Helper()
	files, _ := filepath.Glob("../../slurm/testdata/*/env.*")
	if len(files) < 3 {
		t.Fatalf("where are the recorded environments? found %v", files)
	}
	all := map[string][]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = strings.Split(strings.TrimSpace(string(data)), "\n")
	}
	// What a step adds, in the names of srun(1): the keeper's own environment under Slurm.
	all["step"] = append(slices.Clone(all["env.batch"]),
		"SLURM_JOB_ID=14", "SLURM_STEP_ID=0", "SLURM_STEPID=0", "SLURM_STEP_NODELIST=n[1-4]", "SLURM_STEP_NUM_NODES=4", "SLURM_STEP_NUM_TASKS=4",
		"SLURM_STEP_TASKS_PER_NODE=1(x4)", "SLURM_STEP_LAUNCHER_PORT=40001", "SLURM_STEP_GPUS=0,1", "SLURM_STEP_RESV_PORTS=12000-12003",
		"SLURM_LAUNCH_NODE_IPADDR=10.0.0.1", "SLURM_SRUN_COMM_HOST=10.0.0.1", "SLURM_SRUN_COMM_PORT=40002", "SLURM_TASK_PID=157", "SLURM_GTIDS=0",
		"SLURM_CPU_BIND=quiet,none", "SLURM_CPU_BIND_LIST=", "SLURM_CPU_BIND_TYPE=none", "SLURM_CPU_BIND_VERBOSE=quiet", "SLURM_MEM_BIND=quiet,none",
		"SLURM_MEM_BIND_PREFER=", "SLURM_PMIX_MAPPING_SERV=(vector,(0,4,1))", "SLURM_PMIXP_ABORT_AGENT_PORT=40003", "PMIX_RANK=0", "PMIX_SERVER_URI2=x",
		"PMI_JOBID=1", "PMI_FD=9", "SLURM_PROCID=3", "SLURM_LOCALID=0", "SLURM_NODEID=3", "SLURM_NTASKS=4", "SLURM_NPROCS=4", "SLURMD_NODENAME=n4")
	return all
}

// GANG-1, in every real environment and every mode; what belongs to the job stays as it is.
func TestEnvUnderSlurm(t *testing.T) {
	step := []string{"SLURM_STEP", "SLURM_TASK_PID", "SLURM_LAUNCH", "SLURM_SRUN_COMM", "SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_GTIDS", "SLURM_PMI", "PMI"}
	ours := map[string]string{
		"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURMD_NODENAME": "n3",
	}
	for name, base := range recorded(t) {
		before := map[string]string{}
		for _, kv := range base {
			k, v, _ := strings.Cut(kv, "=")
			before[k] = v
		}
		for _, mode := range []string{"", "rewrite", "keep", "hide"} {
			for _, driver := range []bool{false, true} {
				in := rankOf(base...)
				in.SlurmEnv, in.Driver = mode, driver
				env, _ := Env(in)
				got := vars(t, env)
				for k, v := range got {
					if hasPrefix(k, step) {
						t.Errorf("%s, mode %q, driver %v: sees %s=%s", name, mode, driver, k, v)
					}
					if mode == "hide" && strings.HasPrefix(k, "SLURM") {
						t.Errorf("%s, hide: sees %s=%s", name, k, v)
					}
				}
				rewritten := (mode == "" || mode == "rewrite") && !driver
				for k, v := range before {
					if hasPrefix(k, step) || mode == "hide" || !strings.HasPrefix(k, "SLURM") {
						continue
					}
					want := v
					if mine, is := ours[k]; is && rewritten {
						want = mine
					}
					if got[k] != want {
						t.Errorf("%s, mode %q, driver %v: %s=%q, want %q", name, mode, driver, k, got[k], want)
					}
				}
				if rewritten && got["SLURM_PROCID"] != "5" {
					t.Errorf("%s, mode %q: SLURM_PROCID=%q for rank 5", name, mode, got["SLURM_PROCID"])
				}
			}
		}
	}
}

func TestEnvOutsideSlurmInventsNothing(t *testing.T) {
	env, _ := Env(rankOf("PATH=/bin"))
	for k := range vars(t, env) {
		if strings.HasPrefix(k, "SLURM") {
			t.Errorf("has %s", k)
		}
	}
}
