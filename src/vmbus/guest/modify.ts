/** Requests on an open channel or connection that the host answers. */
import type { Gpa } from "../../types.ts";
import { type MessageOf, MessageType } from "../wire/messages.ts";
import { Feature, Version } from "../wire/versions.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { Steps } from "./scheduler.ts";
import type { GuestStatus } from "./types.ts";

/** Posts MODIFYCHANNEL; from 5.3 on it waits for the answer, and the lock of all channels is free meanwhile. */
function* askHost(core: GuestCore, channel: GuestChannel, cpu: number): Steps<GuestStatus> {
	const message: MessageOf<"ModifyChannel"> = {
		type: MessageType.ModifyChannel,
		relid: channel.relid,
		targetVp: core.vpIndex(cpu),
	};
	if (core.version < Version.V5_3) return core.post(message) === null ? "ok" : "post-failed";
	const request = core.pending.add(message, channel);
	try {
		if (core.post(message) !== null) return "post-failed";
		core.mutex.unlock();
		const woken = yield* request.wait("MODIFYCHANNEL_RESPONSE");
		yield* core.mutex.lock("channel lock");
		if (woken !== "done") return woken;
		// a rescind counts as success in Linux
		if (request.response === null) return core.linux ? "ok" : "rescinded";
		return request.response.type === MessageType.ModifyChannelResponse && request.response.status !== 0
			? "refused"
			: "ok";
	} finally {
		core.pending.remove(request);
	}
}

/**
 * Moves a channel's interrupts to another processor (Linux 6.12 drivers/hv/vmbus_drv.c, target_cpu_store).
 * @returns "ok", "unsupported" before 4.1, "bad-argument", "bad-state" unless the channel is open, or what the host answered
 */
export function* setTargetCpu(core: GuestCore, channel: GuestChannel, cpu: number): Steps<GuestStatus> {
	if (core.version < Version.V4_1) return "unsupported";
	if (!Number.isInteger(cpu) || cpu < 0 || cpu >= core.cpus) return "bad-argument";
	core.modifying++;
	yield* core.mutex.lock("channel lock");
	let status: GuestStatus = "ok";
	if (channel.state !== "opened" || !core.takesRequests) status = "bad-state";
	else if (cpu !== channel.targetCpu) {
		status = yield* askHost(core, channel, cpu);
		if (status === "ok") core.cpuPlan.move(channel, cpu);
	}
	core.mutex.unlock();
	core.modifying--;
	return status;
}

/** Gives the host other monitor pages (MODIFY_CONNECTION; 6.0 with Feature.ModifyConnection). @param pages gpas, or 0 and 0 */
export function* modifyConnection(core: GuestCore, pages: readonly [Gpa, Gpa]): Steps<GuestStatus> {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.ModifyConnection)) return "unsupported";
	const message: MessageOf<"ModifyConnection"> = { type: MessageType.ModifyConnection, monitorPages: pages };
	const request = core.pending.add(message);
	try {
		if (core.post(message) !== null) return "post-failed";
		const woken = yield* request.wait("MODIFY_CONNECTION_RESPONSE");
		if (woken !== "done") return woken;
		const answer = request.response;
		if (answer?.type !== MessageType.ModifyConnectionResponse || answer.connectionState !== 0) return "refused";
		core.triggerPage = pages[1] === 0 ? -1 : pages[1];
		return "ok";
	} finally {
		core.pending.remove(request);
	}
}

/** Asks the server to take no messages but RESUME, UNLOAD and a contact (6.0 with Feature.PauseResume). */
export function* pause(core: GuestCore): Steps<GuestStatus> {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.PauseResume)) return "unsupported";
	const message: MessageOf<"Pause"> = { type: MessageType.Pause };
	const request = core.pending.add(message);
	try {
		if (core.post(message) !== null) return "post-failed";
		const woken = yield* request.wait("PAUSE_RESPONSE");
		return woken === "done" ? "ok" : woken;
	} finally {
		core.pending.remove(request);
	}
}

/** Ends a pause. */
export function unpause(core: GuestCore): GuestStatus {
	if (core.state !== "connected") return "not-connected";
	if (!core.has(Feature.PauseResume)) return "unsupported";
	return core.post({ type: MessageType.Resume }) === null ? "ok" : "post-failed";
}
