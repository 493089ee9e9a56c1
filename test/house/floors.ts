/** What runs before there is a build, for the tests too: what they take of it counts as used. */
export const BUILDER: readonly string[] = ["build.ts", "records.ts"];

/**
 * The house from the ground up. A room imports only from rooms above it in this list; a room is a folder, or the files that are
 * named together.
 */
export const FLOORS: readonly (string | readonly string[])[] = [
	"assembly/layout",
	"assembly/audit",
	"assembly/memory",
	"assembly/reference",
	"assembly/swiotlb",
	"assembly/dma",
	"assembly/vmbus",
	"assembly/replay",
	["assembly/index.ts", "assembly/rings.ts"],
	"assembly/bench",
	[
		"src/bytes.ts",
		"src/input-error.ts",
		"src/source.ts",
		"src/fields.ts",
		"src/status.ts",
		"src/types.ts",
		"src/wasm.ts",
	],
	"src/memory",
	"src/swiotlb",
	"src/dma",
	"src/audit",
	["src/setup.ts", "src/engine.ts"],
	"src/ring",
	"src/synic",
	"src/vmbus/wire",
	"src/coco/platform",
	"src/coco/trust",
	"src/coco/rules",
	"src/coco/memory",
	"src/coco/guest",
	"src/leaks",
	"src/vmbus/decode",
	"src/vmbus/guest",
	"src/vmbus/server",
	"src/vmbus/relay",
	"src/vmbus/devices",
	"src/vmbus/system",
	"src/policy",
	"src/workload",
	"src/study",
	"src/verify",
	"src/report",
	"src/node",
	"src/cli",
	BUILDER,
	"bench",
	"test",
];

/** Where the package is entered. A door stands right above the highest room that it opens; what it exports counts as used. */
export const DOORS = "src/doors";

/** What becomes a binary's exports. */
export const BINARIES: readonly string[] = [
	"assembly/index.ts",
	"assembly/rings.ts",
	"assembly/audit/index.ts",
	"assembly/bench/index.ts",
	"assembly/bench/bare-index.ts",
];

/** Rooms that know files, processes and Node's modules. */
export const ON_NODE: readonly string[] = ["src/node", "src/cli", ...BUILDER, "bench", "test"];

/** Files that reach for Node elsewhere, where they run on it: with process.getBuiltinModule, which no bundler has to follow. */
export const ON_NODE_ALONE: readonly string[] = ["src/wasm.ts", "src/coco/platform/ciphertext.ts"];

/** Packages that the library has inside: the build puts them into the shipped file. */
export const INSIDE: readonly (readonly [file: string, name: string])[] = [
	["src/wasm.ts", "@assemblyscript/loader"],
	["src/verify/hashes.ts", "hash-wasm"],
];

/** Exports of the engine that answer nothing. */
export const ANSWERLESS = ["allowBlocking", "ringsAllowBlocking"];
