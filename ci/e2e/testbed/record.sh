#!/usr/bin/env bash
# Records what the testbed's Slurm prints, for slurm/testdata/VERSION:   . DIR/env; record.sh FOLDER
# Needs the testbed to itself, as its user can submit; takes about two minutes (a time limit, a preemption).
set -uo pipefail
out=$1; mkdir -p "$out"
work=$MANIPLE_TESTBED_SHARED/record.$$; mkdir -p "$work"; chmod 777 "$work"; cd "$work"
as() { setpriv --reuid="$MANIPLE_TESTBED_USER" --regid="$MANIPLE_TESTBED_USER" --clear-groups env HOME="$MANIPLE_TESTBED_HOME" TZ=UTC "$@"; }
export TZ=UTC
clean() { sed "s#$MANIPLE_TESTBED_DIR#/testbed#g; s#$MANIPLE_TESTBED_USER#user#g; s#record\.$$#work#g" | grep -v '^LS_COLORS\|^BASH_FUNC'; }
keep() { clean > "$out/$1"; }
wait_for() { local n; for ((n = 0; n < ${3:-300}; n++)); do scontrol -o show job "$1" | grep -q "JobState=$2" && return; sleep 0.1; done; echo "job $1 is not $2" >&2; }
sub() { as sbatch --parsable "$@" </dev/null; }

sbatch --help | keep sbatch.help
srun --help | keep srun.help
sinfo -e -h -o '%P|%a|%l|%L|%D|%c|%m|%G|%s|%N' | keep sinfo.partitions
sinfo --version | keep version

# Environments.
cat > env.sh <<'S'
#!/bin/bash
env | sort > $1.batch; srun env > $1.all 2>/dev/null; awk '/^SLURM_PROCID=0$/{f=1} {print}' $1.all | sort -u > $1.step; sleep ${2:-0}
S
chmod +x env.sh
j=$(sub -J record -N2 -n3 -c2 --gpus-per-node=1 -t 10 -o 'rec-%j.out' env.sh "$work/rec" 20)
wait_for "$j" RUNNING; for ((n = 0; n < 100; n++)); do [ -s rec.step ] && break; sleep 0.1; done
# One task's environment: the variables that differ between tasks once.
grep -E '^(SLURM|CUDA|ROCR|GPU_|ZE_|PATH|HOME|SRUN)' rec.batch | keep env.batch
grep -E '^(SLURM|CUDA|ROCR|GPU_|ZE_|PATH|HOME|SRUN|PMI)' rec.step | sort -u -t= -k1,1 | keep env.step
ok=$(sub -J ok -o /dev/null --wrap true); bad=$(sub -J fails -o /dev/null --wrap 'exit 3'); sig=$(sub -J signal -o /dev/null --wrap 'kill -9 $$')
odd=$(sub -J 'a name = with State=RUNNING and | bar' -o /dev/null --wrap true)
can=$(sub -J cancelled -o /dev/null --wrap 'exec sleep 60'); wait_for "$can" RUNNING; as scancel "$can"
long=$(sub -J toolong -p short -t 1000 -o /dev/null --wrap true)
hold=$(sub -J waits -o /dev/null -N4 --exclusive -H --wrap true)
for k in "$ok" "$odd"; do wait_for "$k" COMPLETED; done; wait_for "$bad" FAILED; wait_for "$sig" FAILED; wait_for "$can" CANCELLED
scontrol -o show job | keep scontrol.jobs
scancel "$j" "$hold" "$long"
as salloc -Q -N2 env </dev/null 2>/dev/null | grep -E '^SLURM' | sort | keep env.salloc
a=$(sub -J arr -a 3-5:2 -o /dev/null --wrap "env > $work/arr.\$SLURM_ARRAY_TASK_ID; sleep 3"); sleep 2.5; scontrol -o show job "$a" | keep scontrol.array; grep '^SLURM' arr.3 | sort | keep env.array
as sbatch --parsable -J het -N1 -o /dev/null : -N2 -c2 --wrap "env > $work/het; sleep 3" </dev/null > hetid; wait_for "$(cat hetid)" RUNNING; sleep 0.5; scontrol -o show job "$(cat hetid)" | keep scontrol.het; grep '^SLURM' het | sort | keep env.het
cat > awk.sh <<'S'
#!/bin/bash
env | sort > $1
S
chmod +x awk.sh; k=$(sub -J awkward -N1 -c 8 --ntasks-per-node=1 --gpus-per-task=1 --gpu-bind=single:1 --mem-per-cpu=100 --export=NONE -o /dev/null awk.sh "$work/awk"); wait_for "$k" COMPLETED; grep '^SLURM' awk | keep env.awkward

# Why a job is being ended, as seen by itself.
cat > stop.sh <<'S'
#!/bin/bash
trap 'date +%Y-%m-%dT%H:%M:%S; scontrol -o show job $SLURM_JOB_ID; exit 9' TERM
sleep 300 & wait
S
chmod +x stop.sh
lim=$(sub -J limit -t 1 -N1 -o limit.out stop.sh)
k=$(sub -J c -N1 -o c.out stop.sh); q=$(sub -J q -N1 -o q.out stop.sh); wait_for "$k" RUNNING; wait_for "$q" RUNNING; sleep 0.5; scancel "$k"; scontrol requeue "$q"; sleep 2
grep -v '^slurmstepd' c.out | keep stopping.cancelled; grep -v '^slurmstepd' q.out | keep stopping.requeued
grep -h '^slurmstepd' c.out q.out | keep stderr.stopping; scancel "$q"; sleep 1
p=$(sub -J victim -N3 -w n[2-4] --exclusive -o p.out stop.sh); wait_for "$p" RUNNING; sleep 1
h=$(sub -J high -p high -N3 -w n[2-4] --exclusive -o /dev/null --wrap true)
for ((n = 0; n < 600; n++)); do grep -q JobId p.out 2>/dev/null && break; sleep 0.1; done
grep -v '^slurmstepd' p.out | head -2 | keep stopping.preempted; grep -h '^slurmstepd' p.out | clean >> "$out/stderr.stopping"; scancel "$p" "$h"

# Refusals.
err() { local f=$1; shift; "$@" </dev/null >/dev/null 2> >(keep "$f"); sleep 0.2; }
err error.partition as sbatch -p nosuch --wrap true
err error.option as sbatch --nosuch=1 --wrap true
err error.gres as sbatch --gres=fpga:1 --wrap true
err error.nojob scontrol show job 999999
root=$(sbatch --parsable -H -o /dev/null --wrap true); err error.permission as scontrol update JobId="$root" TimeLimit=5; scancel "$root"
sed 's/^SlurmctldPort=.*/SlurmctldPort=9/' "$SLURM_CONF" > nowhere.conf; chmod 644 nowhere.conf
err error.unreachable env SLURM_CONF="$work/nowhere.conf" timeout 60 squeue -h
for ((n = 0; n < 1200; n++)); do grep -q JobId limit.out 2>/dev/null && break; sleep 0.1; done
grep -v '^slurmstepd' limit.out | keep stopping.timelimit; grep -h '^slurmstepd' limit.out | clean >> "$out/stderr.stopping"
sacct -X -n -P --delimiter='|' -o JobIDRaw,JobID,State,ExitCode,Submit,Start,End,Timelimit,Partition,User,NodeList,NNodes,AllocTRES,WorkDir,JobName > sacct 2>&1; keep sacct < sacct
scancel -u root; scancel -u "$MANIPLE_TESTBED_USER"; cd /; rm -rf "$work"
ls -l "$out"
