/** Requests that wait for an answer of the host, oldest first (Linux vmbus_connection.chn_msg_list). */
import type { Message, MessageOf } from "../wire/messages.ts";
import { MessageType } from "../wire/messages.ts";
import type { GuestChannel } from "./channel.ts";
import { Completion, type Scheduler, type Steps, type Woken } from "./scheduler.ts";

type RequestMessage =
	| MessageOf<"InitiateContact">
	| MessageOf<"OpenChannel">
	| MessageOf<"GpadlHeader">
	| MessageOf<"GpadlTeardown">
	| MessageOf<"ModifyChannel">
	| MessageOf<"ModifyConnection">
	| MessageOf<"Pause">;
type Response = Message;

/** One request. */
class PendingRequest {
	readonly message: RequestMessage;
	/** The channel whose rescind ends the wait, or null. */
	readonly channel: GuestChannel | null;
	readonly #answered: Completion;
	response: Response | null = null;

	constructor(message: RequestMessage, channel: GuestChannel | null, scheduler: Scheduler) {
		this.message = message;
		this.channel = channel;
		this.#answered = new Completion(scheduler);
	}

	/** Ends the wait, with an answer or without. */
	complete(response: Response | null): void {
		if (response !== null) this.response = response;
		this.#answered.complete();
	}

	wait(what: string): Steps<Woken> {
		return this.#answered.wait(what);
	}
}

/** Whether a response answers a request. */
function answers(response: Response, request: RequestMessage): boolean {
	switch (response.type) {
		case MessageType.VersionResponse:
			return request.type === MessageType.InitiateContact;
		case MessageType.OpenChannelResult:
			return (
				request.type === MessageType.OpenChannel &&
				request.relid === response.relid &&
				request.openId === response.openId
			);
		case MessageType.GpadlCreated:
			return (
				request.type === MessageType.GpadlHeader && request.relid === response.relid && request.gpadl === response.gpadl
			);
		case MessageType.GpadlTorndown:
			return request.type === MessageType.GpadlTeardown && request.gpadl === response.gpadl;
		case MessageType.ModifyChannelResponse:
			return request.type === MessageType.ModifyChannel && request.relid === response.relid;
		case MessageType.ModifyConnectionResponse:
			return request.type === MessageType.ModifyConnection;
		case MessageType.PauseResponse:
			return request.type === MessageType.Pause;
		default:
			return false;
	}
}

export class PendingRequests {
	readonly #scheduler: Scheduler;
	readonly #requests: PendingRequest[] = [];

	constructor(scheduler: Scheduler) {
		this.#scheduler = scheduler;
	}

	get count(): number {
		return this.#requests.length;
	}

	/** Enters a request: before it is posted, for the answer may come at once. */
	add(message: RequestMessage, channel: GuestChannel | null = null): PendingRequest {
		const request = new PendingRequest(message, channel, this.#scheduler);
		this.#requests.push(request);
		return request;
	}

	remove(request: PendingRequest): void {
		const at = this.#requests.indexOf(request);
		if (at >= 0) this.#requests.splice(at, 1);
	}

	/** Hands a response to the oldest request that it answers; a version response, which names none, to every contact. */
	answer(response: Response): void {
		for (const request of this.#requests) {
			if (!answers(response, request.message)) continue;
			request.complete(response);
			if (response.type !== MessageType.VersionResponse) return;
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
