// Package conf reads Hadoop's configuration as Hadoop reads it: core-site.xml, yarn-site.xml and hdfs-site.xml of one folder.
//
// The nouns: a Conf is what a process has of keys and values; Dir finds the folder; ShortName is who a principal of Kerberos is to the cluster.
//
// A Conf is not changed by reading it, and holds no file open.
//
// Guarantees:
//
//	CONF-1: of a key that is there more than once the last one counts, unless an earlier one is final.
//	CONF-2: ${key}, ${env.NAME}, ${env.NAME-default} and ${env.NAME:-default} are replaced, 20 deep as in Hadoop; what can't be
//	        replaced stays as it is written.
//	CONF-3: what is included (xi:include, with its fallback) stands where it is included; a file that includes
//	        itself is an error.
//	CONF-4: an error names the file, and the key if there is one.
//	CONF-5: a principal's short name is that of the first rule of hadoop.security.auth_to_local that is for it, as Hadoop
//	        applies it; without rules that of the default realm's. What no rule is for is an error, and no user.
//
// Limits: of Hadoop's defaults those that this room's clients need (see Defaults). No Java system properties but
// user.name, no credential providers, no XML entities, and of deprecated names the few that are still met. Patterns in the rules are Go's,
// which have no backreferences and do not look ahead: a rule that has them is an error.
package conf
