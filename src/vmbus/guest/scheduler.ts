/**
 * Cooperative threads of the guest side: each is a generator that yields while it waits. They switch nowhere else, in the
 * order in which they were woken, so that a history of inputs has one outcome.
 */

/** A thread's steps: `yield* wait(...)` waits, all else runs through. */
export type Steps<T = void> = Generator<undefined, T, undefined>;

/** Why a wait ended. */
export type Woken = "done" | "timed-out" | "cancelled";

/** A thread. */
class Task {
	readonly name: string;
	readonly steps: Steps<unknown>;
	/** What it waits for, as people read it; empty while it runs. */
	waitsFor = "";
	/** Set when the wait that it is in is to end without its event. */
	interrupted: Exclude<Woken, "done"> | null = null;
	/** When its wait ends at the latest (ns), or null. */
	deadlineNs: number | null = null;

	constructor(name: string, steps: Steps<unknown>) {
		this.name = name;
		this.steps = steps;
	}
}

/** Runs tasks until none can go on. */
export class Scheduler {
	readonly #ready: Task[] = [];
	readonly #alive = new Set<Task>();
	readonly #polled = new Map<Task, () => boolean>();
	#current: Task | null = null;
	readonly #now: () => number;
	readonly #limitNs: number | null;

	/**
	 * @param now the embedder's clock (ns)
	 * @param limitNs longest wait for the host, or null: for ever
	 */
	constructor(now: () => number, limitNs: number | null) {
		this.#now = now;
		this.#limitNs = limitNs;
	}

	/** Adds a task; it runs when the queue comes to it. */
	spawn(name: string, steps: Steps<unknown>): Task {
		const task = new Task(name, steps);
		this.#alive.add(task);
		this.#ready.push(task);
		return task;
	}

	/** The task that runs now. @throws Error outside of tasks */
	get current(): Task {
		if (this.#current === null) throw new Error("no task runs");
		return this.#current;
	}

	/** Tasks that are not over. */
	get tasks(): readonly Task[] {
		return [...this.#alive];
	}

	/** Lets a parked task go on. */
	wake(task: Task): void {
		if (this.#alive.has(task) && !this.#ready.includes(task)) this.#ready.push(task);
	}

	/** Runs all that can run. Called while it runs already, from a port, it returns at once. */
	run(): void {
		if (this.#current !== null) return;
		do {
			for (let task = this.#ready.shift(); task !== undefined; task = this.#ready.shift()) {
				this.#current = task;
				try {
					if (task.steps.next().done) this.#alive.delete(task);
				} catch (error) {
					this.#alive.delete(task);
					throw error;
				} finally {
					this.#current = null;
				}
			}
			for (const [task, ready] of this.#polled) if (ready()) this.wake(task);
		} while (this.#ready.length > 0);
	}

	/** Ends waits for the host that have lasted too long. */
	expire(): void {
		const now = this.#now();
		for (const task of this.#alive) {
			if (task.deadlineNs !== null && now >= task.deadlineNs) this.interrupt(task, "timed-out");
		}
		this.run();
	}

	/** Ends the wait that a task is in, if it is one for the host. */
	interrupt(task: Task, why: Exclude<Woken, "done">): void {
		if (task.deadlineNs === null) return;
		task.interrupted = why;
		this.wake(task);
	}

	/** Parks the running task until it is woken. */
	*park(what: string): Steps {
		this.current.waitsFor = what;
		const task = this.current;
		yield;
		task.waitsFor = "";
	}

	/** Waits until `ready`, which is asked whenever something else has happened. */
	*poll(what: string, ready: () => boolean): Steps {
		const task = this.current;
		while (!ready()) {
			this.#polled.set(task, ready);
			yield* this.park(what);
			this.#polled.delete(task);
		}
	}

	/**
	 * Parks until `ready` for as long as a wait for the host may last.
	 * @param queue who wakes this task
	 * @param limitNs how long it may last, where that is not the same for all
	 */
	*waitForHost(what: string, queue: Task[], ready: () => boolean, limitNs = this.#limitNs): Steps<Woken> {
		const task = this.current;
		task.deadlineNs = limitNs === null ? Number.POSITIVE_INFINITY : this.#now() + limitNs;
		while (!ready() && task.interrupted === null) {
			queue.push(task);
			yield* this.park(what);
			const at = queue.indexOf(task);
			if (at >= 0) queue.splice(at, 1);
		}
		const woken = ready() ? "done" : (task.interrupted as Woken);
		task.deadlineNs = null;
		task.interrupted = null;
		return woken;
	}
}

/** An event that one wait consumes, as Linux's struct completion. */
export class Completion {
	readonly #scheduler: Scheduler;
	readonly #waiting: Task[] = [];
	#count = 0;

	constructor(scheduler: Scheduler) {
		this.#scheduler = scheduler;
	}

	/** Whether a wait would end at once. */
	get isDone(): boolean {
		return this.#count > 0;
	}

	complete(): void {
		this.#count++;
		const task = this.#waiting.shift();
		if (task !== undefined) this.#scheduler.wake(task);
	}

	reset(): void {
		this.#count = 0;
	}

	/** @param limitNs how long it may last, where that is not the same for all */
	*wait(what: string, limitNs?: number): Steps<Woken> {
		const woken = yield* this.#scheduler.waitForHost(what, this.#waiting, () => this.#count > 0, limitNs);
		if (woken === "done") this.#count--;
		return woken;
	}
}

/** A lock. An unlock wakes the first that waits, which may find it taken again. */
export class Mutex {
	readonly #scheduler: Scheduler;
	readonly #waiting: Task[] = [];
	#held = false;

	constructor(scheduler: Scheduler) {
		this.#scheduler = scheduler;
	}

	get held(): boolean {
		return this.#held;
	}

	*lock(what: string): Steps {
		while (this.#held) {
			this.#waiting.push(this.#scheduler.current);
			yield* this.#scheduler.park(what);
		}
		this.#held = true;
	}

	unlock(): void {
		this.#held = false;
		const task = this.#waiting.shift();
		if (task !== undefined) this.#scheduler.wake(task);
	}
}

/** A work queue with one worker, as Linux's ordered ones. */
export class WorkQueue {
	readonly #scheduler: Scheduler;
	readonly #items: (() => Steps)[] = [];
	readonly #worker: Task;
	#busy = false;

	constructor(scheduler: Scheduler, name: string) {
		this.#scheduler = scheduler;
		this.#worker = scheduler.spawn(name, this.#work());
	}

	get isIdle(): boolean {
		return !this.#busy && this.#items.length === 0;
	}

	/** Items that wait for the worker. */
	get length(): number {
		return this.#items.length;
	}

	queue(item: () => Steps): void {
		this.#items.push(item);
		if (!this.#busy) this.#scheduler.wake(this.#worker);
	}

	*#work(): Steps {
		while (true) {
			for (let item = this.#items.shift(); item !== undefined; item = this.#items.shift()) {
				this.#busy = true;
				yield* item();
				this.#busy = false;
			}
			yield* this.#scheduler.park("work");
		}
	}
}
