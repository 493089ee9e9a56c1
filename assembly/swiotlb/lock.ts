import { AREA_LOCK } from "../layout/pool.ts";

const FREE: i32 = 0;
const HELD: i32 = 1;
/** Held, and somebody may sleep on it. */
const CONTENDED: i32 = 2;
/** Looks at a contended lock before sleeping; the pause between two looks doubles from 1 up to 2^7 loads. */
const LOOKS: i32 = 40;

/** Whether this thread may block: never on a browser's main thread. Per instance on purpose. */
let mayBlock: bool = false;

/** Allows or forbids this instance to sleep on a contended lock. */
export function allowBlocking(allowed: bool): void {
	mayBlock = allowed;
}

/**
 * Takes an area's lock. One lock an area, as in Linux; never held across a copy.
 * Differs from Linux: there are no interrupts to mask, so outside the threads build there is nothing to take.
 */
export function lockArea(area: usize): void {
	if (COCO_THREADS) {
		if (atomic.cmpxchg<i32>(area, FREE, HELD, AREA_LOCK) !== FREE) lockContended(area + AREA_LOCK);
	}
}

/** Gives an area's lock back, and wakes one sleeper. */
export function unlockArea(area: usize): void {
	if (COCO_THREADS) {
		if (atomic.xchg<i32>(area, FREE, AREA_LOCK) === CONTENDED) atomic.notify(area + AREA_LOCK, 1);
	}
}

function lockContended(lock: usize): void {
	for (let look = 0; look < LOOKS; look++) {
		pause(lock, 1 << min(look, 7));
		if (atomic.load<i32>(lock) === FREE && atomic.cmpxchg<i32>(lock, FREE, HELD) === FREE) return;
	}
	while (atomic.xchg<i32>(lock, CONTENDED) !== FREE) {
		if (mayBlock) atomic.wait<i32>(lock, CONTENDED, 1_000_000);
		else pause(lock, 128);
	}
}

/** WebAssembly has no pause instruction: atomic loads of a line that stays shared are the nearest to it. */
function pause(lock: usize, loads: i32): void {
	for (let i = 0; i < loads; i++) atomic.load<i32>(lock);
}
