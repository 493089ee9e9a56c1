const FREE: i32 = 0;
const HELD: i32 = 1;
/** Held, and somebody may sleep on it. */
const CONTENDED: i32 = 2;
/** Looks at a contended lock before sleeping; the pause between two looks doubles from 1 up to 2^7 loads. */
const LOOKS: i32 = 40;

/** Longest sleep on a word whose change nobody tells (ns). */
const YIELD_NS: i64 = 50_000;

/** Whether this thread may block: never on a browser's main thread. Per instance on purpose. */
let mayBlock: bool = false;

/** Allows or forbids this instance to sleep on a contended lock. */
export function allowBlocking(allowed: bool): void {
	mayBlock = allowed;
}

/**
 * Takes the lock in the word at `at`. None is held across a copy.
 * Differs from Linux: there are no interrupts to mask, so outside the threads build there is nothing to take.
 */
export function lock(at: usize): void {
	if (COCO_THREADS) {
		if (atomic.cmpxchg<i32>(at, FREE, HELD) !== FREE) lockContended(at);
	}
}

/** Gives a lock back, and wakes one sleeper. */
export function unlock(at: usize): void {
	if (COCO_THREADS) {
		if (atomic.xchg<i32>(at, FREE) === CONTENDED) atomic.notify(at, 1);
	}
}

function lockContended(at: usize): void {
	for (let look = 0; look < LOOKS; look++) {
		pause(at, 1 << min(look, 7));
		if (atomic.load<i32>(at) === FREE && atomic.cmpxchg<i32>(at, FREE, HELD) === FREE) return;
	}
	while (atomic.xchg<i32>(at, CONTENDED) !== FREE) {
		if (mayBlock) atomic.wait<i32>(at, CONTENDED, 1_000_000);
		else pause(at, 128);
	}
}

/** Lets others run while the word at `at` is `value`. look: how many looks came before */
export function yieldTo(at: usize, value: i32, look: i32): void {
	if (look >= LOOKS && mayBlock) atomic.wait<i32>(at, value, YIELD_NS);
	else pause(at, 1 << min(look, 7));
}

/** WebAssembly has no pause instruction: atomic loads of a line that stays shared are the nearest to it. */
function pause(at: usize, loads: i32): void {
	for (let i = 0; i < loads; i++) atomic.load<i32>(at);
}
