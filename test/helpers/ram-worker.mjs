/** A worker that reads and writes pages through Ram while another converts them. Runs the built JavaScript. */
import { parentPort, workerData } from "node:worker_threads";

const { Engine } = await import(workerData.library);
const { handle, converted, quiet, gate: gateBuffer } = workerData;
const { ram } = await Engine.attach(handle);
const gate = new Int32Array(gateBuffer);
const done = { served: 0, refused: 0, stale: 0, lost: 0, other: 0 };

/** Whether the call was served. */
function served(call) {
	try {
		call();
		done.served++;
		return true;
	} catch (error) {
		if (error.status === "BLOCKED_PAGES") done.refused++;
		else done.other++;
		return false;
	}
}

parentPort.postMessage("ready");
for (let i = 0; Atomics.load(gate, 0) === 0; i++) {
	// what a refused read would find in the buffer that reads pass through
	ram.read(quiet, 64);
	served(() => {
		if (ram.read(converted, 64)[0] === 0xbb) done.stale++;
	});
	const value = 1 + (i % 100);
	if (served(() => ram.write(converted, Uint8Array.of(value))) && ram.view(converted, 1)[0] !== value) done.lost++;
	served(() => ram.fill(converted + 64, 64, value));
}
parentPort.postMessage(done);
