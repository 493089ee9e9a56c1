/** When a guest posts a message again (Linux 6.12 drivers/hv/connection.c, vmbus_post_msg). */
import { HvStatus } from "./status.ts";

const MAX_TRIES = 100;
/** The delay doubles until it has doubled so often. */
const MAX_DOUBLINGS = 21;
/** From here on a thread that may sleep does (µs), for whole milliseconds. */
const SLEEP_ABOVE_US = 1000;

/** Linux's name of why a post was given up. */
export type PostError = "EAGAIN" | "EINVAL" | "ENOBUFS" | "ENXIO";

/** What to do after a try. */
type PostStep =
	| { readonly state: "posted" }
	| { readonly state: "failed"; readonly error: PostError }
	/** Wait, then try again, or fail with `error` if that was the last try. */
	| { readonly state: "wait"; readonly us: number; readonly sleeps: boolean };

/** The retries of one message, step by step: whoever posts waits in between, by his own clock. */
export class PostRetry {
	readonly #isContact: boolean;
	readonly #maySleep: boolean;
	#tries = 0;
	#error: PostError = "EAGAIN";

	/**
	 * @param isContact INITIATE_CONTACT: an old host does not know its connection id, and there is no use in waiting
	 * @param maySleep false: all delays are busy ones
	 */
	constructor(isContact: boolean, maySleep = true) {
		this.#isContact = isContact;
		this.#maySleep = maySleep;
	}

	/** Whether another try may follow the last wait; else `error` tells why not. */
	get mayTry(): boolean {
		return this.#tries < MAX_TRIES;
	}

	/** The error of the last try. */
	get error(): PostError {
		return this.#error;
	}

	/** Takes the status of a try (HvStatus). */
	next(status: number): PostStep {
		switch (status) {
			case HvStatus.SUCCESS:
				return { state: "posted" };
			case HvStatus.INVALID_CONNECTION_ID:
				if (this.#isContact) return { state: "failed", error: "ENXIO" };
				this.#error = "EAGAIN";
				break;
			case HvStatus.INSUFFICIENT_MEMORY:
			case HvStatus.INSUFFICIENT_BUFFERS:
				this.#error = "ENOBUFS";
				break;
			default:
				return { state: "failed", error: "EINVAL" };
		}
		const us = 2 ** Math.min(this.#tries, MAX_DOUBLINGS);
		this.#tries++;
		if (!this.#maySleep || us <= SLEEP_ABOVE_US) return { state: "wait", us, sleeps: false };
		return { state: "wait", us: Math.floor(us / 1000) * 1000, sleeps: true };
	}
}

/** Waits for so many µs. */
type Delay = (us: number, sleeps: boolean) => void;

/** Posts until it is taken, refused or given up. @returns why it failed, or null */
export function postWithRetry(post: () => number, retry: PostRetry, delay: Delay): PostError | null {
	while (retry.mayTry) {
		const step = retry.next(post());
		if (step.state === "posted") return null;
		if (step.state === "failed") return step.error;
		delay(step.us, step.sleeps);
	}
	return retry.error;
}
