/** What still breaks the rules, without line numbers: this list only shrinks. */
export const KNOWN: ReadonlySet<string> = new Set<string>([
	"test/engine/records.test.ts: no file: it imports records.ts, and there is no such file",
	"build.ts: no file: it imports records.ts, and there is no such file",
	"src/vmbus/decode/pcapng.ts: unused: neither a door nor code uses the const PSEUDO_HEADER_BYTES",
	"src/vmbus/decode/transcript.ts: unused: neither a door nor code uses the interface HexSource",
	"src/vmbus/decode/transcript.ts: unused: neither a door nor code uses the type RecordedPath",
	"src/vmbus/server/config.ts: unused: neither a door nor code uses the interface Port",
	"src/vmbus/server/gpadls.ts: unused: neither a door nor code uses the function parseRanges",
	"src/vmbus/system/vsp.ts: unused: neither a door nor code uses the interface VspOptions",
	"src/vmbus/wire/codec.ts: unused: neither a door nor code uses the type DecodeErrorKind",
	"src/vmbus/wire/messages.ts: unused: neither a door nor code uses the const MESSAGES",
	"src/vmbus/wire/messages.ts: unused: neither a door nor code uses the type MessageName",
]);
