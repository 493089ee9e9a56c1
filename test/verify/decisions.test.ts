import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { isDecisions } from "../../src/verify/decisions/decisions.ts";
import { readDecisions } from "../../src/verify/decisions/lines.ts";
import { verifyRecording } from "../../src/verify/verify.ts";

const HEADER = "# dma-decisions 1 kernel=6.12.117 arch=x86 dyn=0";
const QUESTION = "x86 m=64 cm=64 bus=0 coh=1 pool=def force=0 mam=0 op=map at=- pa=50000e00 sz=4096 d=todev";
const ANSWER = "bw=- r=direct dma=50000e00 pg=plain tr=0 cin=0 cm=0 used=0 w=- sc=0/0 sd=0/0 un=0/0 u2=0 uw=-";
const LIST = `${QUESTION.replace("op=map", "op=sg")} n=2 p2p=host`;
const MEMORY = "x86 m=64 cm=64 bus=0 coh=1 pool=def force=0 mam=0 op=alloc at=- sz=64 decf=0 encf=1 ap=ok";

function fileOf(...lines: string[]): string {
	return [HEADER, ...lines, ""].join("\n");
}

/** A file of one case, with a part of it changed. */
function changed(from: string, to: string): string {
	const text = fileOf(`${QUESTION} | ${ANSWER}`);
	expect(text).toContain(from);
	return text.replace(from, to);
}

describe("a file of decisions", () => {
	it("is known by its first line", () => {
		expect([isDecisions(fileOf()), isDecisions("# decisions\n"), isDecisions(`\n${HEADER}`)]).toEqual([
			true,
			false,
			false,
		]);
	});

	it("is read with its kernel, its units and its answers in order", () => {
		const { header, cases } = readDecisions("file", fileOf(`${QUESTION} | ${ANSWER}`, `${LIST} | bw=- n=-5`));
		expect(header).toEqual({ release: "6.12.117", arch: "x86", dynamic: false });
		expect(cases).toHaveLength(2);
		expect(cases[0]).toMatchObject({
			line: 2,
			platform: "x86",
			dmaMask: 2n ** 64n - 1n,
			gpa: 0x50000e00,
			bytes: 4096,
			segments: 1,
			atomicPools: "ok",
		});
		expect(cases[0]?.expected.map((field) => field.join("=")).join(" ")).toBe(ANSWER);
		expect(cases[1]).toMatchObject({ op: "sg", segments: 2, lastSegment: "host" });
	});

	it("reads the free after a second bar", () => {
		const { cases } = readDecisions("file", fileOf(`${MEMORY} | r=ok | fenc=0 fw=LEAK-ENC`));
		expect(cases[0]).toMatchObject({ encryptFails: true, decryptFails: false });
		expect(cases[0]?.expected).toEqual([
			["r", "ok"],
			["fenc", "0"],
			["fw", "LEAK-ENC"],
		]);
	});

	it.each([
		["dma-decisions 1", "dma-decisions 2", 'file:1: version: expected 1, found "2"'],
		["6.12.117", "6.1.192", 'file:1: kernel: expected a kernel whose rules are known, 6.12 or 7.3, found "6.1.192"'],
		["6.12.117", "6.123", 'file:1: kernel: expected a kernel whose rules are known, 6.12 or 7.3, found "6.123"'],
		["arch=x86", "arch=mips", 'file:1: arch: expected one of x86, arm64, s390, found "mips"'],
		["arch=x86", "arch=arm64", 'file:2: platform: expected one of arm64, pkvm, cca, found "x86"'],
		["dyn=0", "dyn=2", 'file:1: dyn: expected 0 or 1, found "2"'],
		["dyn=0", "dyn=0 more", 'file:1: header: expected nothing behind dyn=, found "more"'],
		["m=64", "m=65", 'file:2: m: expected a mask\'s bits, 1 to 64, found "65"'],
		["cm=64 ", "", 'file:2: cm: expected cm=, found "bus="'],
		["pool=def", "pool=big", "file:2: pool: expected one of def, noforce, noalloc, null, full"],
		["op=map", "op=unmap", "file:2: op: expected one of map, res, sg, alloc, alloca, pages, pagesa, max"],
		["at=-", "at=NO_WARN+SLOW", "file:2: at: expected - or SKIP_CPU_SYNC+NO_WARN"],
		["pa=50000e00", "pa=0x50000e00", 'file:2: pa: expected a hexadecimal address below 2^52, found "0x50000e00"'],
		["pa=50000e00", "pa=fffffffffffff", "file:2: pa: expected a buffer that ends below 2^52"],
		["sz=4096", "sz=0", 'file:2: sz: expected bytes from 1 to 999999999, found "0"'],
		["d=todev", "d=none", 'file:2: d: expected one of bidi, todev, fromdev, found "none"'],
		[" d=todev", "", 'file:2: d: expected a value, found "end of line"'],
		["d=todev", "d=todev ap", 'file:2: decf: expected name=value, found "ap"'],
		["d=todev", "d=todev decf=0 encf=0 ap=some", 'file:2: ap: expected one of ok, full, none, found "some"'],
		[" | ", " ", "file:2: line: expected question | answer [| free]"],
		["r=direct", "r=maybe", 'file:2: r: expected one of direct, bounce, bus, err, ok, null, found "maybe"'],
		["r=direct", "r", 'file:2: answer: expected name=value, found "r"'],
		["tr=0", "traced=0", "file:2: traced: expected one of the fields ri, n, r, src"],
		["un=0/0", "un=0", 'file:2: un: expected bytes copied / cache calls, found "0"'],
		[" w=-", " w=full", 'file:2: w: expected message classes or -, found "full"'],
		["pg=plain", "pg=open", 'file:2: pg: expected one of private, shared, plain, mmio, out, found "open"'],
	])("with %j as %j is refused in one line", (from, to, message) => {
		expect(() => readDecisions("file", changed(from, to))).toThrow(InputError);
		expect(() => readDecisions("file", changed(from, to))).toThrow(message);
	});

	it("without a case is refused", () => {
		expect(() => readDecisions("file", fileOf())).toThrow("file: holds no decision");
	});
});

describe("the replay of decisions", () => {
	it("counts what it compared", async () => {
		const { summary, identical, compared } = await verifyRecording(fileOf(`${QUESTION} | ${ANSWER}`), {
			name: "file.txt.gz",
		});
		expect([summary, identical]).toEqual(["file: 1/1 decisions identical", true]);
		expect(compared).toEqual({ decisions: 1, fields: 14, notSetUp: 0, differing: 0 });
	});

	it("says how many cases no kernel makes", async () => {
		const none = `${QUESTION.replace("pool=def", "pool=null")} | ${ANSWER}`;
		const { summary } = await verifyRecording(fileOf(`${QUESTION} | ${ANSWER}`, none), { name: "file" });
		expect(summary).toBe("file: 1/2 decisions identical, 1 not set up");
	});

	it.each([
		["dma=50000e00", "dma=50000e01", "line 2: dma: expected dma=50000e01, got dma=50000e00"],
		["tr=0", "tr=1", "line 2: tr: expected tr=1, got tr=0"],
		[" uw=-", "", "line 2: uw: expected no more fields, got uw=-"],
		[" w=-", "", "line 2: sc: expected sc=0/0, got w=-"],
		["uw=-", "uw=- w=-", "line 2: w: expected w=-, got no more fields"],
	])("stops at %j as %j", async (from, to, divergence) => {
		const { summary, identical } = await verifyRecording(changed(from, to), { name: "file" });
		expect([summary, identical]).toEqual([`file: ${divergence} (0/1 decisions identical)`, false]);
	});
});
