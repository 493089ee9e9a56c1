import { hasMessage, type MessageOf, MessageType } from "../wire/messages.ts";
import { ConnectionState } from "../wire/values.ts";
import { Feature, Version } from "../wire/versions.ts";
import type { ServerCompletion } from "./actions.ts";
import type { Arrival, Handlers, ServerCore } from "./core.ts";
import { compareOffers, offerToGuest } from "./offers.ts";
import { areChannelsReleased, releaseChannels } from "./release.ts";
import { type ConnectionInfo, type ContactRequest, type NextStep, reservationOf } from "./types.ts";

/** The server grants these itself; the others only if the host behind a relay has them too. */
const LOCAL_FEATURES = Feature.ClientId | Feature.ConfidentialChannels | Feature.GpaPinning;

type ContactMessage = MessageOf<"InitiateContact">;

/** INITIATE_CONTACT: always ends the connection that there is, also when the version turns out to be unknown. */
function handleContact(core: ServerCore, message: ContactMessage, arrival: Arrival): void {
	const { version } = message;
	const { payload, multiclient, trusted } = arrival;
	const sint = multiclient && version >= Version.V5_0 ? (message.sint ?? 0) : core.config.sint;
	const vtl = multiclient && version >= Version.V5_1 ? (message.vtl ?? 0) : core.config.vtl;
	if (vtl !== core.config.vtl) {
		core.act({ type: "forward", vtl, payload: payload.slice(), trusted });
		return;
	}
	const targetVp = version >= Version.V3_0 ? message.targetVp : 0;
	if (sint !== core.config.sint) {
		// no SINT beyond 15 has a message slot
		if (sint < 16) core.sendTo({ vp: targetVp, sint }, unsupportedResponse());
		return;
	}
	const [parentToChild, childToParent] = message.monitorPages;
	const request: ContactRequest = {
		version,
		featureFlags: message.featureFlags ?? 0,
		targetVp,
		interruptPage: version < Version.V2_4 && message.interruptPage !== 0 ? (message.interruptPage ?? null) : null,
		monitorPages:
			(parentToChild === 0) !== (childToParent === 0)
				? "invalid"
				: parentToChild === 0
					? null
					: [parentToChild, childToParent],
		clientId: message.clientId ?? null,
		trusted,
	};
	if (requestDisconnect(core, { name: "Contact", request })) contact(core, request);
}

function contact(core: ServerCore, request: ContactRequest): void {
	core.targetVp = request.targetVp;
	// what waits is of a connection that the guest no longer has
	core.outgoing = [];
	if (!core.config.versions.includes(request.version)) {
		core.send(unsupportedResponse());
		return;
	}
	const supported =
		core.config.features | (core.config.confidential && request.trusted ? Feature.ConfidentialChannels : 0);
	const info: ConnectionInfo = {
		version: request.version,
		features: request.version >= Version.V6_0 ? request.featureFlags & supported : 0,
		trusted: request.trusted,
		interruptPage: request.interruptPage,
		monitorPages: request.monitorPages === "invalid" ? null : request.monitorPages,
		serverMonitorPages: false,
		clientId: request.clientId,
		offersSent: false,
		paused: false,
		modifying: false,
	};
	if (request.monitorPages === "invalid") {
		sendVersionResponse(core, withoutServerPages(info), ConnectionState.UnknownFailure);
		return;
	}
	core.connection = { name: "Connecting", info, next: null };
	core.act({ type: "connect", request, features: info.features });
}

function withoutServerPages(info: ConnectionInfo): ConnectionInfo {
	return { ...info, features: info.features & ~Feature.ServerSpecifiedMonitorPages };
}

/** The end of the action "connect". @throws RangeError for monitor pages without a child-to-parent one */
export function completeConnect(core: ServerCore, completion: Extract<ServerCompletion, { type: "connect" }>): void {
	if (core.connection.name !== "Connecting") {
		core.reject("unexpected-completion", `connect while ${core.connection.name}`);
		return;
	}
	const { next } = core.connection;
	let { info } = core.connection;
	info = { ...info, features: info.features & ((completion.relayFeatures ?? 0xff) | LOCAL_FEATURES) };
	const pages = completion.monitorPages;
	if (pages !== undefined && pages[1] === 0)
		throw new RangeError("monitorPages: the child-to-parent page must not be 0");
	if (pages !== undefined && (info.features & Feature.ServerSpecifiedMonitorPages) !== 0)
		info = { ...info, monitorPages: pages, serverMonitorPages: true };
	else info = withoutServerPages(info);
	const { state } = completion;
	if (state === 0) core.connection = { name: "Connected", info };
	else core.connection = { name: "Disconnected" };
	if (state === "unsupported") core.send(unsupportedResponse());
	else sendVersionResponse(core, info, state);
	if (state !== 0) core.act({ type: "disconnected" });
	if (next !== null && requestDisconnect(core, next)) take(core, next);
}

function unsupportedResponse(): MessageOf<"VersionResponse"> {
	return {
		type: MessageType.VersionResponse,
		supported: 0,
		connectionState: ConnectionState.Ok,
		connectionIdOrVersion: 0,
	};
}

function sendVersionResponse(core: ServerCore, info: ConnectionInfo, connectionState: number): void {
	const { version, features } = info;
	// older guests cannot be told of failures
	if (connectionState !== ConnectionState.Ok && version < Version.V2_4) {
		core.send(unsupportedResponse());
		return;
	}
	core.send({
		type: MessageType.VersionResponse,
		supported: 1,
		connectionState,
		connectionIdOrVersion: version >= Version.V5_0 ? core.config.messageConnectionId : version,
		...(version >= Version.V6_0 ? { featureFlags: features } : {}),
		...(info.serverMonitorPages && info.monitorPages !== null ? { monitorPages: info.monitorPages } : {}),
	});
}

/** REQUESTOFFERS, once a connection. */
function handleRequestOffers(core: ServerCore): void {
	if (core.connected?.offersSent === true) {
		core.reject("offers-already-sent", "REQUESTOFFERS a second time");
		return;
	}
	core.change({ offersSent: true });
	const channels = [...core.channels.values()].filter(
		(channel) => channel.state.name === "ClientReleased" && reservationOf(channel) === null,
	);
	channels.sort((a, b) => compareOffers(a.offer, b.offer));
	for (const channel of channels) offerToGuest(core, channel);
	core.send({ type: MessageType.AllOffersDelivered });
}

/** UNLOAD: answered when no device uses the guest's memory any more. */
function handleUnload(core: ServerCore): void {
	const next: NextStep = { name: "UnloadResponse", respond: hasMessage(core.version, "UnloadResponse") };
	if (requestDisconnect(core, next)) take(core, next);
}

/** PAUSE: nothing is sent until RESUME. */
function handlePause(core: ServerCore): void {
	core.send({ type: MessageType.PauseResponse });
	core.change({ paused: true });
}

function handleResume(core: ServerCore): void {
	core.change({ paused: false });
	core.flush();
}

/** MODIFY_CONNECTION: other monitor pages. */
function handleModifyConnection(core: ServerCore, { monitorPages: pages }: MessageOf<"ModifyConnection">): void {
	const isPair = (pages[0] === 0) === (pages[1] === 0);
	const isModifying = core.connected?.modifying === true;
	const isServers = core.connected?.serverMonitorPages === true;
	if (isModifying || isServers || !isPair) {
		if (isModifying) core.reject("modify-in-progress", "MODIFY_CONNECTION before the answer to the last one");
		else if (isServers) core.reject("invalid-monitor-pages", "MODIFY_CONNECTION while the server's pages are in use");
		else core.reject("invalid-monitor-pages", "MODIFY_CONNECTION with one monitor page");
		core.send({ type: MessageType.ModifyConnectionResponse, connectionState: ConnectionState.UnknownFailure });
		return;
	}
	const monitorPages = pages[0] === 0 ? null : pages;
	core.change({ monitorPages, modifying: true });
	core.act({ type: "modifyConnection", monitorPages });
}

/** The end of the action "modifyConnection". */
export function completeModifyConnection(core: ServerCore, state: number): void {
	if (core.connected?.modifying !== true) {
		core.reject("unexpected-completion", "modifyConnection without MODIFY_CONNECTION");
		return;
	}
	core.change({ modifying: false });
	core.send({ type: MessageType.ModifyConnectionResponse, connectionState: state });
}

/** Resets everything that the guest knows, reserved channels included. Again while it goes on: nothing more. */
export function reset(core: ServerCore): void {
	if (isResetting(core)) return;
	const next: NextStep = { name: "Reset" };
	if (requestDisconnect(core, next)) take(core, next);
}

/** Whether reset() is under way: no message is taken. */
export function isResetting({ connection }: ServerCore): boolean {
	return (connection.name === "Connecting" || connection.name === "Disconnecting") && connection.next?.name === "Reset";
}

/** Releases the guest's channels. @returns whether the connection has ended already; else `next` follows when it has */
function requestDisconnect(core: ServerCore, next: NextStep): boolean {
	const withReserved = next.name === "Reset";
	const { connection } = core;
	releaseChannels(core, withReserved);
	const trusted = next.name === "Contact" && next.request.trusted;
	switch (connection.name) {
		case "Connecting":
			core.connection = { ...connection, next };
			return false;
		case "Disconnecting":
			core.connection = { ...connection, trusted: connection.trusted || trusted, next };
			return false;
		case "Disconnected":
			if (areChannelsReleased(core, withReserved)) return true;
			core.connection = { name: "Disconnecting", version: 0, trusted, next };
			return false;
		case "Connected": {
			const { info } = connection;
			core.connection = { name: "Disconnecting", version: info.version, trusted: info.trusted || trusted, next };
			// nobody is paused any more, and a new contact knows nothing of what waits
			if (next.name === "Contact") core.outgoing = [];
			core.flush();
			return endConnection(core);
		}
	}
}

/** Ends a connection whose last channel is released. @returns whether it has ended */
function endConnection(core: ServerCore): boolean {
	if (core.connection.name !== "Disconnecting") return false;
	if (!areChannelsReleased(core, core.connection.next.name === "Reset")) return false;
	core.connection = { name: "Disconnected" };
	core.act({ type: "disconnected" });
	return true;
}

/** To be called when a channel or a GPADL is released: goes on with what waits for the last of them. */
export function checkDisconnected(core: ServerCore): void {
	const next = core.connection.name === "Disconnecting" ? core.connection.next : null;
	if (next !== null && endConnection(core)) take(core, next);
}

function take(core: ServerCore, next: NextStep): void {
	switch (next.name) {
		case "Reset":
			core.outgoing = [];
			core.slotBusy = false;
			core.act({ type: "resetDone" });
			break;
		case "UnloadResponse":
			if (next.respond) core.send({ type: MessageType.UnloadResponse });
			break;
		case "Contact":
			contact(core, next.request);
	}
}

export const CONNECTION_HANDLERS = {
	InitiateContact: { take: handleContact, unconnected: true, paused: true },
	RequestOffers: { take: handleRequestOffers },
	Unload: { take: handleUnload, unconnected: true, paused: true },
	ModifyConnection: { take: handleModifyConnection },
	Pause: { take: handlePause },
	Resume: { take: handleResume, paused: true },
} satisfies Partial<Handlers>;
