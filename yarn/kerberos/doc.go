// Package kerberos logs in to a realm, by keytab or from a ticket cache, and gives tickets for Hadoop's services.
//
// The nouns: a Login is a principal's; its Config says where keytab, cache and krb5.conf are, as MIT's programs
// find them. What krb5.conf says is read here, and the library that speaks to the KDC (gokrb5) is handed a small
// one made of it: of what distributions ship, it ignores some and fails or panics on some.
//
// Ownership. A Login that has a keytab renews its ticket by itself, in a goroutine of the library that Close
// ends. A question to a KDC that the caller gave up runs on until the library's own time limit, some seconds.
//
// Guarantees:
//
//	KRB-1: include, includedir, module, a list of files in KRB5_CONFIG, and settings that are not known never
//	       make a login fail; a file that can't be understood is an error that names file and line.
//	KRB-2: a cache that can't be read here (KEYRING, KCM, API, MEMORY) is an error with the command that makes one
//	       that can.
//	KRB-3: no key, password or ticket is in the text of an error.
//
// Limits: KEYRING and KCM caches are not read. A ticket from a cache is renewed as long as it is renewable, in
// memory; the cache is not written. KDCs are asked over TCP only. No PKINIT, no FAST, no passwords. kdc = https://... is not
// tried.
package kerberos
