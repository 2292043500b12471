// Package s3 keeps what a node's memory has no room for in a bucket of S3, or of another store that speaks its protocol, as an agent.SpillFS.
//
// # Nouns
//
//   - A Store is a bucket and a prefix of names in it. It finds its endpoint, region and credentials as the AWS tools do: by
//     AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and so on, by a profile in ~/.aws, by the role of a machine.
//   - A file is one object of the bucket. It is there once all of it is.
//   - A folder is what names begin with, up to a slash.
//
// # Guarantees
//
//   - A large file goes in parts, some at once; of one that failed the parts are removed.
//   - Each part is signed with the hash of its bytes, so that the server refuses what was changed on its way.
//   - What may be repeated is repeated while nobody answers, or the answer is that the server can't now: a minute for each part and
//     for each piece that is read. A connection by which nothing comes for 20 s is cut.
//   - An error says which bucket, at which endpoint, and what to do. No credential is in it.
//
// # Ownership
//
// A Store may be used by several goroutines. Its methods block as long as the network does.
//
// # Limits
//
// A file has up to 10,000 parts, the first thousand of 8 MiB, each thousand behind them twice as large; four of them are in memory at a time.
// How full a bucket is can't be asked.
package s3
