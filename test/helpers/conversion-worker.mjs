/** A worker that converts pages, or one that maps them meanwhile. Runs the built JavaScript: worker threads do not run TypeScript. */
import { parentPort, workerData } from "node:worker_threads";

const { Engine, PageState, Attr } = await import(workerData.library);
const { role, handle, seed, flipping, kept, rounds, privateBit, gate: gateBuffer, workers } = workerData;
const engine = await Engine.attach(handle, { mayBlock: workerData.mayBlock });
const { ram, instance } = engine;
const x = instance.exports;

/** Bytes that stand in pages in transition; all others are below 128. */
const SCRIBBLE = 0xee;
const BLOCKED = -5;
const FORCE_BOUNCE = 0x40000000;
/** The gate's second word: conversions are over. */
const gate = new Int32Array(gateBuffer);

let random = (Math.imul(seed, 0x9e3779b1) ^ 0x5bf03635) | 1;
function below(n) {
	random ^= random << 13;
	random ^= random >>> 17;
	random ^= random << 5;
	return (random >>> 0) % n;
}

function start() {
	Atomics.add(gate, 0, 1);
	Atomics.notify(gate, 0);
	while (Atomics.load(gate, 0) < workers) Atomics.wait(gate, 0, Atomics.load(gate, 0), 50);
}

function convert() {
	const done = { rounds: 0, strayWrites: 0, isPrivate: true };
	const scribbled = new Uint8Array(flipping.bytes).fill(SCRIBBLE);
	for (let i = 0; i < rounds; i++) {
		// contents change only while nobody else may look at them
		ram.convert(flipping.gpa, flipping.bytes, PageState.InTransition);
		const pages = ram.view(flipping.gpa, flipping.bytes);
		pages.fill(SCRIBBLE);
		for (let look = 0; look < 4; look++) if (Buffer.compare(pages, scribbled) !== 0) done.strayWrites++;
		pages.fill(1 + below(127));
		done.isPrivate = !done.isPrivate;
		ram.convert(flipping.gpa, flipping.bytes, done.isPrivate ? PageState.Private : PageState.Shared);
		// from private to private: nobody ever meets them shared
		for (let again = 0; again < 20; again++) ram.convert(kept.gpa, kept.bytes, PageState.Private);
		done.rounds++;
	}
	Atomics.store(gate, 1, 1);
	return done;
}

const done = {
	bounced: 0,
	direct: 0,
	isPrivate: 0,
	isShared: 0,
	accesses: 0,
	blocked: 0,
	wrongState: 0,
	scribble: 0,
	other: 0,
};

/** Whether a status was answered; all but blocked pages are wrong. */
function refused(status) {
	if (status >= 0) return false;
	if (status === BLOCKED) done.blocked++;
	else done.other++;
	return true;
}

function look(bytes) {
	let seen = 0;
	for (let i = 0; i < bytes.length; i++) seen |= bytes[i];
	if (seen >= 128) done.scribble++;
}

function mapDirect(gpa, bytes, isKept) {
	const dma = x.mapSingle(workerData.direct, gpa, bytes, below(3), below(4));
	if (refused(dma)) return;
	done.direct++;
	if (dma === gpa + privateBit) done.isPrivate++;
	else if (dma === gpa && !isKept) done.isShared++;
	else done.wrongState++;
	if (x.unmapSingle(workerData.direct, dma, bytes, 1, 0) !== 0) done.other++;
}

/** Calls again until the pages are usable. */
function insist(call) {
	let answer = call();
	while (answer === BLOCKED) answer = call();
	if (answer < 0) done.other++;
	return answer;
}

function mapBounced(gpa, bytes) {
	const dir = below(3);
	const device = workerData.bounced;
	const raw = below(2) === 0;
	const slot = raw
		? x.swiotlbTblMap(device, gpa, bytes, 0, dir, below(4))
		: x.mapSingle(device, gpa, bytes, dir, below(4), FORCE_BOUNCE);
	if (refused(slot)) return;
	if (!raw) done.bounced++;
	const inSlots = ram.view(slot, bytes);
	look(inSlots);
	if (below(2) === 0) {
		insist(() => x.syncForDevice(device, slot, bytes, dir));
		look(inSlots);
	}
	inSlots.fill(1 + below(127));
	if (below(2) === 0) insist(() => x.syncForCpu(device, slot, bytes, dir));
	const end = raw ? x.swiotlbTblUnmap : x.unmapSingle;
	insist(() => end(device, slot, bytes, dir, below(4) === 0 ? Attr.SkipCpuSync : 0));
}

function access(gpa, bytes) {
	const kind = below(3);
	const status =
		kind === 0
			? x.ramReadTo(gpa, bytes, workerData.scratch)
			: kind === 1
				? x.ramWriteFrom(gpa, bytes, workerData.scratch)
				: x.ramFillWith(gpa, bytes, 1 + below(127));
	if (refused(status)) return;
	done.accesses++;
	if (kind === 0) look(instance.bytes.subarray(workerData.scratch, workerData.scratch + bytes));
}

function use() {
	while (Atomics.load(gate, 1) === 0) {
		for (let i = 0; i < 100; i++) {
			const isKept = below(2) === 0;
			const window = isKept ? kept : flipping;
			const bytes = 1 + below(below(4) === 0 ? 30_000 : 3000);
			const gpa = window.gpa + below(window.bytes - bytes);
			const kind = below(4);
			if (kind === 0) mapBounced(gpa, bytes);
			else if (kind === 1) access(gpa, bytes);
			else mapDirect(gpa, bytes, isKept);
		}
	}
	return done;
}

start();
parentPort.postMessage(role === "convert" ? convert() : use());
