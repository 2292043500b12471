// Package device finds out what this node may use, and what is wrong with it.
//
// A shared node is never ours alone: the affinity mask, the cgroups of a container or a batch system,
// the grant that Slurm wrote into the environment and the machine itself each set a bound. The smallest
// wins, and [Facts] says who set it. A device has an opaque identity; a mask is made of identities, never of
// indexes, because an index means something else to every layer that numbers devices.
//
// Everything is read below [Options].Root and through [Options].Getenv, so that a folder of files is a machine.
//
//	DEVICE-1: no fact is larger than any bound that was read.
//	DEVICE-2: a granted device that can't be found is an error, never a smaller mask.
//	DEVICE-3: detection starts no more than one program (nvidia-smi), waits for it 10 s at most, and changes
//	nothing but this process's soft limits, and those only in RaiseLimits.
package device
