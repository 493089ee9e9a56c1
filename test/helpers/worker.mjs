/** A worker on an engine of another thread. Runs the built JavaScript: worker threads do not run TypeScript. */
import { parentPort, workerData } from "node:worker_threads";

const { Engine } = await import(workerData.library);
const { handle, device: index, cpu, rounds, seed, windowGpa, windowBytes, inFlight } = workerData;
const engine = await Engine.attach(handle, { mayBlock: workerData.mayBlock });
const device = engine.devices[index];

let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bf03635) | 1;
function below(n) {
	state ^= state << 13;
	state ^= state >>> 17;
	state ^= state << 5;
	return (state >>> 0) % n;
}

const DIRECTIONS = [0, 1, 2];
const done = { maps: 0, full: 0, slots: 0, wrong: 0, refusedUnmaps: 0, otherStatus: 0, outside: 0 };
const live = [];
// each live mapping has a part of the worker's window of its own, so that what arrives there is known
const partBytes = Math.floor(windowBytes / inFlight / 2048) * 2048;
const free = Array.from({ length: inFlight }, (_, i) => windowGpa + i * partBytes);

function wrongBytes(gpa, bytes, value) {
	const view = engine.ram.view(gpa, bytes);
	let wrong = 0;
	for (let i = 0; i < bytes; i++) wrong += view[i] === value ? 0 : 1;
	return wrong;
}

function end() {
	const at = below(live.length);
	const { gpa, dma, bytes, dir, value } = live[at];
	live[at] = live[live.length - 1];
	live.pop();
	// nobody else wrote into these slots
	done.wrong += wrongBytes(dma, bytes, value);
	engine.ram.view(dma, bytes).fill(value ^ 255);
	const back = device.tryUnmap(dma, bytes, dir);
	if (back !== (dir === 1 ? 0 : bytes)) done.refusedUnmaps++;
	done.wrong += wrongBytes(gpa, bytes, dir === 1 ? value : value ^ 255);
	free.push(gpa);
}

// all workers start together
const gate = new Int32Array(workerData.gate);
Atomics.add(gate, 0, 1);
Atomics.notify(gate, 0);
while (Atomics.load(gate, 0) < workerData.workers) Atomics.wait(gate, 0, Atomics.load(gate, 0), 50);

for (let i = 0; i < rounds; i++) {
	if (free.length === 0 || (live.length > 0 && below(2) === 0)) {
		end();
		continue;
	}
	const gpa = free.pop();
	const bytes = 1 + below(below(4) === 0 ? partBytes : 2048);
	const dir = DIRECTIONS[below(3)];
	const value = 1 + below(254);
	engine.ram.view(gpa, bytes).fill(value);
	const dma = device.tryMap(gpa, bytes, dir, cpu < 0 ? below(64) : cpu);
	if (dma < 0) {
		if (dma === -7) done.full++;
		else done.otherStatus++;
		free.push(gpa);
		if (live.length > 0) end();
		continue;
	}
	done.maps++;
	if (dma < workerData.slotsFrom || dma + bytes > workerData.slotsTo) done.outside++;
	done.slots += Math.ceil(bytes / 2048);
	live.push({ gpa, dma, bytes, dir, value });
}
while (live.length > 0) end();
parentPort.postMessage(done);
