/** The lines of a `dma-decisions` file: what was asked of a kernel, and every field that it answered. */
import { KERNELS } from "../../coco/rules/kernel.ts";
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
import { Direction, type Gpa } from "../../types.ts";

/** The first line: whose answers these are. */
export interface DecisionHeader {
	/** The kernel's release, such as "6.12.117". */
	readonly release: string;
	readonly arch: "x86" | "arm64" | "s390";
	/** CONFIG_SWIOTLB_DYNAMIC. */
	readonly dynamic: boolean;
}

const RELEASES = Object.values(KERNELS).map(({ release }) => release);
const OPS = ["map", "res", "sg", "alloc", "alloca", "pages", "pagesa", "max"] as const;
const POOLS = [
	"def",
	"noforce",
	"noalloc",
	"null",
	"full",
	"restr",
	"restrfull",
	"restrhi",
	"priv",
	"decfail",
	"restrdecfail",
] as const;
const PLATFORMS = {
	x86: ["x86", "sme", "snp", "vtom", "tdx"],
	arm64: ["arm64", "pkvm", "cca"],
	s390: ["s390pv"],
} as const;
const DIRECTIONS = {
	bidi: Direction.Bidirectional,
	todev: Direction.ToDevice,
	fromdev: Direction.FromDevice,
} as const;
const ATTRS = [
	"SKIP_CPU_SYNC",
	"NO_WARN",
	"MMIO",
	"REQUIRE_COHERENT",
	"CC_SHARED",
	"NO_KERNEL_MAPPING",
	"ALLOC_CC_SHARED",
] as const;
const LAST_SEGMENTS = ["-", "host", "bus", "no"] as const;
const ATOMIC_POOLS = ["ok", "full", "none"] as const;

export type DecisionPlatform = (typeof PLATFORMS)[keyof typeof PLATFORMS][number];
/** A DMA attribute, as the kernel names it behind DMA_ATTR_. */
type DecisionAttr = (typeof ATTRS)[number];

/** One case: a kernel booted afresh, one device, one call. */
export interface DecisionCase {
	readonly line: number;
	readonly platform: DecisionPlatform;
	/** Highest addresses of streaming and coherent DMA, inclusive. */
	readonly dmaMask: bigint;
	readonly coherentDmaMask: bigint;
	/** 0: none. */
	readonly busLimit: bigint;
	readonly coherent: boolean;
	readonly pool: (typeof POOLS)[number];
	/** `swiotlb=force`. */
	readonly force: boolean;
	readonly minAlignMask: number;
	readonly op: (typeof OPS)[number];
	readonly attrs: ReadonlySet<DecisionAttr>;
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly dir: Direction;
	/** Segments of a list, the ith at gpa + i * SEGMENT_STRIDE; 1 where there is no list. */
	readonly segments: number;
	/** What the list's last segment is: RAM, or memory of another device reached through the host bridge, over the bus, or not at all. */
	readonly lastSegment: (typeof LAST_SEGMENTS)[number];
	/** Whether the first conversion of that kind after boot fails. */
	readonly decryptFails: boolean;
	readonly encryptFails: boolean;
	readonly atomicPools: (typeof ATOMIC_POOLS)[number];
	/** What the kernel answered, field by field: of the call, and of the free if there was one. */
	readonly expected: readonly DecisionField[];
}

/** A field of an answer, such as ["r", "bounce"]. A list has some of them once a segment. */
export type DecisionField = readonly [name: string, value: string];

/** Bytes between the segments of a list. */
export const SEGMENT_STRIDE = 0x10000;

/** A field's values as a pattern, and in words. */
interface Rule {
	readonly pattern: RegExp;
	readonly expected: string;
}

function oneOf(names: readonly string[]): Rule {
	return { pattern: new RegExp(`^(${names.join("|")})$`), expected: `one of ${names.join(", ")}` };
}

const COUNT: Rule = { pattern: /^\d{1,10}$/, expected: "a count" };
const FLAG: Rule = { pattern: /^[01]$/, expected: "0 or 1" };
const BITS: Rule = { pattern: /^([1-9]|[1-5]\d|6[0-4])$/, expected: "a mask's bits, 1 to 64" };
const HEX: Rule = { pattern: /^[0-9a-f]{1,16}$/, expected: "a hexadecimal number of up to 16 digits" };
const ADDRESS: Rule = { pattern: /^[0-9a-f]{1,13}$/, expected: "a hexadecimal address below 2^52" };
const SIZE: Rule = { pattern: /^[1-9]\d{0,8}$/, expected: "bytes from 1 to 999999999" };
const COPIED: Rule = { pattern: /^\d{1,10}\/\d{1,10}$/, expected: "bytes copied / cache calls" };
const STATE = oneOf(["private", "shared", "plain", "mmio", "out"]);
const MESSAGES: Rule = { pattern: /^(-|[A-Z]+(-[A-Z]+)*(,[A-Z]+(-[A-Z]+)*)*)$/, expected: "message classes or -" };

/** Fields of the question, in their order. */
const COMMON: Readonly<Record<string, Rule>> = {
	m: BITS,
	cm: BITS,
	bus: HEX,
	coh: FLAG,
	pool: oneOf(POOLS),
	force: FLAG,
	mam: { pattern: /^[0-9a-f]{1,8}$/, expected: "a hexadecimal mask of up to 32 bits" },
	op: oneOf(OPS),
	at: {
		pattern: new RegExp(`^(-|(${ATTRS.join("|")})(\\+(${ATTRS.join("|")}))*)$`),
		expected: `- or ${ATTRS.join("+")}`,
	},
};
const BUFFER = { pa: ADDRESS, sz: SIZE, d: oneOf(Object.keys(DIRECTIONS)) };
const FAULTS = { decf: FLAG, encf: FLAG, ap: oneOf(ATOMIC_POOLS) };
const MEMORY = { sz: SIZE, ...FAULTS };
/** What follows by op. A question without conversions says nothing about faults. */
const BY_OP: Readonly<Record<(typeof OPS)[number], readonly Readonly<Record<string, Rule>>[]>> = {
	map: [BUFFER, { ...BUFFER, ...FAULTS }],
	res: [BUFFER, { ...BUFFER, ...FAULTS }],
	sg: [{ ...BUFFER, n: { pattern: /^([1-9]|1[0-6])$/, expected: "1 to 16 segments" }, p2p: oneOf(LAST_SEGMENTS) }],
	alloc: [MEMORY],
	alloca: [MEMORY],
	pages: [MEMORY],
	pagesa: [MEMORY],
	max: [{}],
};

/** Fields of an answer, whatever the op. */
const ANSWERED: Readonly<Record<string, Rule>> = {
	ri: { pattern: /^-\d{1,4}$/, expected: "a negative errno" },
	n: { pattern: /^-?\d{1,4}$/, expected: "segments, or a negative errno" },
	r: oneOf(["direct", "bounce", "bus", "err", "ok", "null"]),
	src: oneOf(["slot", "pages", "atomic"]),
	dma: HEX,
	tlb: ADDRESS,
	phys: ADDRESS,
	pool: oneOf(["first", "grown", "transient"]),
	pg: STATE,
	tpg: STATE,
	fpg: STATE,
	va: oneOf(["lin", "remap", "cookie", "page"]),
	prot: oneOf(["private", "shared"]),
	max: { pattern: /^(\d{1,10}|unlimited)$/, expected: "bytes or unlimited" },
	reqmask: HEX,
	lim: FLAG,
	grow: FLAG,
	sc: COPIED,
	sd: COPIED,
	un: COPIED,
	bw: MESSAGES,
	w: MESSAGES,
	uw: MESSAGES,
	fw: MESSAGES,
	...Object.fromEntries(
		["tr", "cin", "cout", "cm", "used", "u2", "dec", "redec", "enc", "leak", "fenc", "fleak", "fused"].map((name) => [
			name,
			COUNT,
		]),
	),
};

/** @throws InputError */
function check(f: Fields, name: string, rule: Rule | undefined, value: string): string {
	if (rule === undefined) throw f.error(name, `one of the fields ${Object.keys(ANSWERED).join(", ")}`, name);
	if (!rule.pattern.test(value)) throw f.error(name, rule.expected, value);
	return value;
}

/** A name and a value around the first "=". @throws InputError */
function split(f: Fields, text: string, where: string): [string, string] {
	const at = text.indexOf("=");
	if (at <= 0) throw f.error(where, "name=value", text);
	return [text.slice(0, at), text.slice(at + 1)];
}

/** Whether a text is of this format. */
export function isDecisions(text: string): boolean {
	return text.startsWith("# dma-decisions ");
}

/** @throws InputError for another version, or a kernel whose rules are not known */
function readDecisionHeader(path: string, line: string): DecisionHeader {
	const f = new Fields(path, 1, line);
	const version = f.text(2, "version");
	if (version !== "1") throw f.error("version", "1", version);
	const value = (index: number, name: string, { pattern, expected }: Rule) => {
		const [found, text] = split(f, f.text(index, name), name);
		if (found !== name) throw f.error(name, `${name}=`, found);
		if (!pattern.test(text)) throw f.error(name, expected, text);
		return text;
	};
	const release = value(3, "kernel", {
		pattern: new RegExp(`^(${RELEASES.join("|").replaceAll(".", "\\.")})(\\.\\d{1,4})?$`),
		expected: `a kernel whose rules are known, ${RELEASES.join(" or ")}`,
	});
	const arch = value(4, "arch", oneOf(Object.keys(PLATFORMS)));
	const dynamic = value(5, "dyn", FLAG) === "1";
	if (f.count > 6) throw f.error("header", "nothing behind dyn=", f.text(6, "header"));
	return {
		release,
		arch: arch as DecisionHeader["arch"],
		dynamic,
	};
}

/**
 * Reads `QUESTION | ANSWER [| FREE]`.
 * @throws InputError that names the field
 */
function readDecision(path: string, line: number, text: string, { arch }: DecisionHeader): DecisionCase {
	const [question = "", answer = "", free, ...more] = text.split(" | ");
	const f = new Fields(path, line, question);
	if (answer === "" || more.length > 0) throw f.error("line", "question | answer [| free]", text.slice(0, 60));
	const platform = f.text(0, "platform");
	if (!PLATFORMS[arch].some((name) => name === platform))
		throw f.error("platform", `one of ${PLATFORMS[arch].join(", ")}`, platform);
	const asked = readQuestion(f);
	const bits = (name: string) => 2n ** BigInt(asked.get(name) as string) - 1n;
	const number = (name: string, radix: number, fallback: number) =>
		asked.has(name) ? Number.parseInt(asked.get(name) as string, radix) : fallback;
	const at = asked.get("at") as string;
	const gpa = number("pa", 16, 0);
	const bytes = number("sz", 10, 0);
	const segments = number("n", 10, 1);
	if (gpa + (segments - 1) * SEGMENT_STRIDE + bytes > 2 ** 52)
		throw f.error("pa", "a buffer that ends below 2^52", asked.get("pa"));
	return {
		line,
		platform: platform as DecisionPlatform,
		dmaMask: bits("m"),
		coherentDmaMask: bits("cm"),
		busLimit: BigInt(`0x${asked.get("bus")}`),
		coherent: asked.get("coh") === "1",
		pool: asked.get("pool") as DecisionCase["pool"],
		force: asked.get("force") === "1",
		minAlignMask: number("mam", 16, 0),
		op: asked.get("op") as DecisionCase["op"],
		attrs: new Set(at === "-" ? [] : (at.split("+") as DecisionAttr[])),
		gpa,
		bytes,
		dir: DIRECTIONS[(asked.get("d") ?? "bidi") as keyof typeof DIRECTIONS],
		segments,
		lastSegment: (asked.get("p2p") ?? "-") as DecisionCase["lastSegment"],
		decryptFails: asked.get("decf") === "1",
		encryptFails: asked.get("encf") === "1",
		atomicPools: (asked.get("ap") ?? "ok") as DecisionCase["atomicPools"],
		expected: [...readAnswer(f, answer, "answer"), ...(free === undefined ? [] : readAnswer(f, free, "free"))],
	};
}

/** The fields of a question, every one of them there and in its place. */
function readQuestion(f: Fields): ReadonlyMap<string, string> {
	const asked = new Map<string, string>();
	const read = (index: number, name: string, rule: Rule) => {
		const [found, value] = split(f, f.text(index, name), name);
		if (found !== name) throw f.error(name, `${name}=`, `${found}=`);
		asked.set(name, check(f, name, rule, value));
	};
	const common = Object.entries(COMMON);
	for (const [i, [name, rule]] of common.entries()) read(i + 1, name, rule);
	const shapes = BY_OP[asked.get("op") as DecisionCase["op"]].map((shape) => Object.entries(shape));
	const count = f.count - 1 - common.length;
	const shape = shapes.find(({ length }) => length === count) ?? (shapes.at(-1) as (typeof shapes)[number]);
	for (const [i, [name, rule]] of shape.entries()) read(i + 1 + common.length, name, rule);
	const behind = 1 + common.length + shape.length;
	if (f.count > behind)
		throw f.error("question", `nothing behind ${shape.at(-1)?.[0] ?? "at"}=`, f.text(behind, "end"));
	return asked;
}

function readAnswer(f: Fields, text: string, where: string): DecisionField[] {
	return text
		.trim()
		.split(/\s+/)
		.map((token) => {
			const [name, value] = split(f, token, where);
			return [name, check(f, name, ANSWERED[name], value)];
		});
}

/** @throws InputError for a file without cases */
export function readDecisions(path: string, text: string): { header: DecisionHeader; cases: readonly DecisionCase[] } {
	const lines = text.split("\n");
	const header = readDecisionHeader(path, lines[0] as string);
	const cases = lines.flatMap((line, i) =>
		i === 0 || line.trim() === "" ? [] : [readDecision(path, i + 1, line, header)],
	);
	if (cases.length === 0) throw new InputError(`${path}: holds no decision`);
	return { header, cases };
}
