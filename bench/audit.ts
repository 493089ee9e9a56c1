/** Suite audit: what the labels and the log cost, over the exports that both builds have. */
import { PAGE_SIZE } from "../assembly/layout/context.ts";
import { formatBytes } from "../src/bytes.ts";
import { Direction } from "../src/types.ts";
import { MIB, openStage, type Stage } from "./stage.ts";
import type { Case, Runner, Suite } from "./suite.ts";

const DEPTH = 32;
const POOL_BYTES = 16 * MIB;
/** Most pages of originals: a lap around the pool shifts them by other than a multiple of LABELS. */
const WINDOW_PAGES = 1000;
const LABELS = 5;
const CHECK_OPS = 2000;

interface AuditCase extends Case {
	readonly bytes: number;
	readonly dir: Direction;
	/** What the originals are. changing: five labels, page by page, so that a slot never has the label again that it had. */
	readonly labels: "changing" | "the same" | "two a page";
}

function row(bytes: number, dir: Direction, labels: AuditCase["labels"] = "changing"): AuditCase {
	const copies = dir === Direction.FromDevice ? "FROM_DEVICE" : "TO_DEVICE";
	return {
		name: `${formatBytes(bytes)} ${copies}${labels === "changing" ? "" : `, labels: ${labels}`}`,
		bytes,
		dir,
		labels,
		targets: bytes === 4096 && labels !== "two a page" ? [{ of: "engine.audit", over: "engine", atMost: 3 }] : [],
	};
}

const cases: AuditCase[] = [
	...[Direction.ToDevice, Direction.FromDevice].flatMap((dir) => [512, 4096, 65536].map((bytes) => row(bytes, dir))),
	row(4096, Direction.ToDevice, "the same"),
	row(4096, Direction.ToDevice, "two a page"),
];

/** Maps in a ring of DEPTH, FIFO, originals around a window: the pool is walked from end to end. @returns a map's address, each time */
function mapper(
	{ engine, base }: Stage,
	{ bytes, dir }: AuditCase,
): (ops: number, seen?: (dma: number) => void) => void {
	const { index } = engine.addDevice({ forceBounce: true, minAlignMask: 0xfff });
	const { mapSingle, unmapSingle } = engine.instance.exports;
	const ring = new Float64Array(DEPTH).fill(-1);
	const step = Math.max(bytes, 4096);
	const window = Math.floor((WINDOW_PAGES * PAGE_SIZE) / step) * step;
	let count = 0;
	return (ops, seen) => {
		for (let i = 0; i < ops; i++) {
			const oldest = ring[count % DEPTH] as number;
			if (oldest >= 0 && unmapSingle(index, oldest, bytes, dir, 0) < 0) throw new Error("an unmap was refused");
			const dma = mapSingle(index, base + ((count * step) % window), bytes, dir, 0, 0);
			if (dma < 0) throw new Error(`map answered ${dma}`);
			ring[count % DEPTH] = dma;
			count++;
			seen?.(dma);
		}
	};
}

/** Says of all originals that they are private, as what a guest's CPU wrote there. */
function paint({ engine: { audit }, base, ramBytes }: Stage, { labels, bytes }: AuditCase): void {
	if (audit === null) return;
	const made = Array.from({ length: LABELS }, (_, owner) =>
		audit.label({ owner, isPrivate: true, secret: true, accepted: false }),
	);
	const step = Math.max(bytes, 4096);
	for (let at = 0; at + step <= ramBytes; at += step) {
		audit.paint(base + at, step, made[labels === "changing" ? (at / step) % LABELS : 0] ?? null);
		if (labels === "two a page") audit.paint(base + at + 1000, 2000, made[1] ?? null);
	}
}

async function open(build: "engine" | "engine.audit", of: AuditCase): Promise<Runner> {
	const stage = await openStage(build, POOL_BYTES, 5 * MIB);
	paint(stage, of);
	const map = mapper(stage, of);
	return {
		batch: map,
		check() {
			let addresses = 0;
			map(CHECK_OPS, (dma) => {
				addresses = Math.imul(addresses ^ dma, 0x01000193);
			});
			let bytes = 0;
			const ram = stage.engine.ram.view(stage.base, stage.ramBytes + POOL_BYTES);
			const words = new Int32Array(ram.buffer, ram.byteOffset, ram.length / 4);
			for (const word of words) bytes = Math.imul(bytes ^ word, 0x01000193);
			return `addresses ${addresses >>> 0}, bytes ${bytes >>> 0}`;
		},
	};
}

export const audit: Suite<AuditCase> = {
	name: "audit",
	about: `map and unmap with the copies from TypeScript, ${DEPTH} in flight, FIFO, a pool of ${formatBytes(POOL_BYTES)} walked from end to end, all originals of private origin. engine.audit: the same with a label for each byte and a log.`,
	variants: ["engine", "engine.audit"],
	engine: ["engine", "engine.audit"],
	cases,
	open: (variant, of) => open(variant === "engine.audit" ? variant : "engine", of),
};
