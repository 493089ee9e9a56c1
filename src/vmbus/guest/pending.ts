/** Requests that wait for an answer of the host, oldest first (Linux vmbus_connection.chn_msg_list). */
import {
	type AnswerTo,
	answerSpec,
	isAnswer,
	type Message,
	type MessageOf,
	MessageType,
	type RequestName,
} from "../wire/messages.ts";
import type { GuestChannel } from "./channel.ts";
import { Completion, type Scheduler, type Steps, type Woken } from "./scheduler.ts";

/** One request. */
class PendingRequest<N extends RequestName> {
	readonly message: MessageOf<RequestName>;
	/** The channel whose rescind ends the wait, or null. */
	readonly channel: GuestChannel | null;
	readonly #answered: Completion;
	/** null: none has come. */
	answer: AnswerTo<N> | null = null;

	constructor(message: MessageOf<N>, channel: GuestChannel | null, scheduler: Scheduler) {
		this.message = message;
		this.channel = channel;
		this.#answered = new Completion(scheduler);
	}

	/** Ends the wait, with an answer or without. */
	complete(answer: AnswerTo<N> | null): void {
		if (answer !== null) this.answer = answer;
		this.#answered.complete();
	}

	wait(): Steps<Woken> {
		return this.#answered.wait(answerSpec(this.message).wire);
	}
}

export class PendingRequests {
	readonly #scheduler: Scheduler;
	readonly #requests: PendingRequest<RequestName>[] = [];

	constructor(scheduler: Scheduler) {
		this.#scheduler = scheduler;
	}

	get count(): number {
		return this.#requests.length;
	}

	/** Enters a request: before it is posted, for the answer may come at once. */
	add<N extends RequestName>(message: MessageOf<N>, channel: GuestChannel | null = null): PendingRequest<N> {
		const request = new PendingRequest<N>(message, channel, this.#scheduler);
		this.#requests.push(request as PendingRequest<RequestName>);
		return request;
	}

	remove<N extends RequestName>(request: PendingRequest<N>): void {
		const at = this.#requests.indexOf(request as PendingRequest<RequestName>);
		if (at >= 0) this.#requests.splice(at, 1);
	}

	/** Hands a message to the oldest request that it answers; a version response, which names none, to every contact. */
	answer(message: Message): void {
		for (const request of this.#requests) {
			if (!isAnswer(message, request.message)) continue;
			request.complete(message as AnswerTo<RequestName>);
			if (message.type !== MessageType.VersionResponse) return;
		}
	}

	/**
	 * Ends waits on a rescinded channel.
	 * @param all false: only the oldest, as Linux 6.12 drivers/hv/channel_mgmt.c, vmbus_rescind_cleanup does
	 */
	rescind(channel: GuestChannel, all: boolean): void {
		for (const request of this.#requests) {
			if (request.channel !== channel) continue;
			request.complete(null);
			if (!all) return;
		}
	}
}
