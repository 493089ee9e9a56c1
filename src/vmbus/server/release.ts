/** Letting go of channels: what the guest releases, and what a connection leaves behind. */
import type { ServerChannel, ServerCore } from "./core.ts";
import { releaseIds, sendOffer } from "./offers.ts";
import { isRevoked, type Reservation, reservationOf } from "./types.ts";

/**
 * Drops every reference that the guest holds to a channel, its GPADLs included; the device closes what is open.
 * @param reoffer whether the connection goes on: then a re-offered channel keeps its relid and is offered again
 */
export function releaseChannel(core: ServerCore, channel: ServerChannel, reoffer: boolean): void {
	const { offerId } = channel;
	for (const gpadl of [...channel.gpadls.values()]) {
		if (gpadl.state === "InProgress" || (gpadl.state === "Accepted" && isRevoked(channel))) {
			core.dropGpadl(channel, gpadl);
		} else if (gpadl.state === "Offered") {
			gpadl.state = "OfferedTearingDown";
		} else if (gpadl.state === "Accepted") {
			gpadl.state = "TearingDown";
			core.act({ type: "gpadlTeardown", offerId, gpadl: gpadl.gpadl });
		}
	}
	switch (channel.state.name) {
		case "Reoffered":
			if (reoffer) {
				channel.state = { name: "Closed" };
				sendOffer(core, channel);
				return;
			}
			channel.state = { name: "ClientReleased" };
			break;
		case "Closed":
			channel.state = { name: "ClientReleased" };
			break;
		case "Revoked":
			channel.state = { name: "ClientReleased" };
			core.channels.delete(offerId);
			break;
		case "Opening":
			channel.state = { name: "OpeningClientRelease" };
			break;
		case "Open":
			channel.state = { name: "ClosingClientRelease" };
			core.act({ type: "close", offerId });
			break;
		case "Closing":
		case "ClosingReopen":
			channel.state = { name: "ClosingClientRelease" };
	}
	releaseIds(core, channel);
}

/** Releases all channels; those that are reserved stay with their owner unless the whole VM resets. */
export function releaseChannels(core: ServerCore, withReserved: boolean): void {
	for (const channel of [...core.channels.values()]) {
		const { state } = channel;
		if (!withReserved && "reserved" in state && state.reserved !== null) {
			const reserved = { ...state.reserved, orphaned: true };
			// who wanted it open again is gone
			if (state.name === "ClosingReopen") channel.state = { name: "Closing", request: state.request, reserved };
			else channel.state = { ...state, reserved };
		} else releaseChannel(core, channel, false);
	}
}

/** A reserved channel was closed. One of an old connection is released: the next connection is offered it. */
export function endReservation(core: ServerCore, channel: ServerChannel, { orphaned }: Reservation): void {
	channel.state = { name: "Closed" };
	if (orphaned) releaseChannel(core, channel, false);
}

/** Whether no device uses the guest's memory any more, reserved channels aside unless asked for. */
export function areChannelsReleased(core: ServerCore, withReserved: boolean): boolean {
	for (const channel of core.channels.values()) {
		if (!withReserved && reservationOf(channel) !== null) continue;
		if (channel.state.name !== "ClientReleased" || channel.gpadls.size > 0) return false;
	}
	return true;
}
