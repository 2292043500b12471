// Package cli is what users type: one file per command, on urfave/cli.
//
// Nouns. A command is a *cli.Command made by newCommand from a page: what it does, examples, flags. An
// app is one invocation: arguments, environment, streams. A Fault is an error with the exit code that
// belongs to it. A shape's first line, an end record and a state reply are what commands print.
//
// Arguments are put in order before urfave sees them (args.go), because sbatch's users write -N2 and
// urfave does not read that: after it every flag is --name=value and what belongs to the user's program
// stands behind "--".
//
// Guarantees.
//
//	CLI-1: stdout is data, stderr is messages; nothing else is written there, and no escape sequence to
//	       what is no terminal.
//	CLI-2: every error is one line "maniple: what: why; what to do" and has an exit code of codes.go.
//	CLI-3: after "--", or after the program's name, everything is the user's, byte for byte.
//	CLI-4: --json prints one JSON object (or one per line) with a version field on stdout. The
//	       last of a command that was understood and failed is its error, with the class's name.
//	CLI-5: a flag that does not exist is an error that names the nearest one that does.
//
//	CLI-6: a flag wins over MANIPLE_<FLAG>, which wins over the Slurm job, which wins over ./maniple.toml,
//	       the user's and the site's config.toml; a key there that is no flag is an error.
//	CLI-7: completing a word asks no controller: files, caches and agents of this node answer, or nobody.
//
// Limits. #MANIPLE lines and a site's [policy] are not read.
package cli
