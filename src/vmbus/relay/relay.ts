/**
 * A paravisor's relay: the host's channels, offered to the guest by the paravisor's own server (OpenVMM vmbus_relay, vmbus_client).
 * The guest sees one server: relids and connection ids are unique across host and paravisor, for that server gives them all, and
 * the host is told them as guest-specified signal parameters. What the host calls confidential is not: the flags are stripped.
 * Messages and actions in, actions out; no clock, no I/O. Everything that the host says is hostile.
 */

import type { ServerAction } from "../server/actions.ts";
import type { VmbusServer } from "../server/server.ts";
import { DecodeError, decodeMessage } from "../wire/codec.ts";
import { MessageType } from "../wire/messages.ts";
import { Version } from "../wire/versions.ts";
import { type RelayAction, RelayCore, type RelayOptions } from "./core.ts";
import { serve } from "./guest-side.ts";
import { goDown, hear, RELAYED_FEATURES } from "./host-side.ts";
import { restoreRelay, type SavedRelay, saveRelay } from "./save.ts";

export type { RelayAction, RelayOptions } from "./core.ts";

export class VmbusRelay {
	readonly #core: RelayCore;

	/** @param server the paravisor's, which the guest talks to */
	constructor(server: VmbusServer, options: RelayOptions = {}) {
		this.#core = new RelayCore(server, options);
	}

	/** Goes on where the state was saved. @param server restored from what was saved together with it @throws RangeError that names what is wrong */
	static restore(server: VmbusServer, options: RelayOptions, saved: unknown): VmbusRelay {
		const relay = new VmbusRelay(server, options);
		restoreRelay(relay.#core, saved);
		return relay;
	}

	/** Everything that the relay knows, as JSON can hold it; the server is saved by itself. */
	save(): SavedRelay {
		return saveRelay(this.#core);
	}

	/** `relayFeatures` for the completion of the server's action "connect", or undefined without a host. */
	get features(): number | undefined {
		return this.#core.state === "connected" ? this.#core.features : undefined;
	}

	/** The host's relid of a channel, or undefined when it is not relayed. */
	hostRelid(offerId: number): number | undefined {
		return this.#core.byOffer.get(offerId)?.relid;
	}

	/** Contacts the host, unless that is done already. Only 6.0 has the signal parameters that a relay needs. */
	connect(): RelayAction[] {
		const core = this.#core;
		if (core.state === "contacting" || core.state === "connected") return [];
		const { vp, sint, vtl, connectionId } = core.options;
		core.state = "contacting";
		core.messageConnectionId = connectionId;
		core.post({
			type: MessageType.InitiateContact,
			version: Version.V6_0,
			targetVp: vp,
			sint,
			vtl,
			featureFlags: RELAYED_FEATURES,
			monitorPages: [0, 0],
		});
		return core.takeActions();
	}

	/** Takes the host's channels back: it is gone, or does not answer. What the guest waits for ends. */
	disconnect(): RelayAction[] {
		const core = this.#core;
		if (core.state === "connected") core.post({ type: MessageType.Unload });
		goDown(core, "disconnected");
		return core.takeActions();
	}

	/** Takes a message of the host. */
	hostMessage(payload: Uint8Array): RelayAction[] {
		const core = this.#core;
		const rules = core.state === "connected" ? { version: Version.V6_0, features: core.features } : {};
		const message = decodeMessage(payload, { ...rules, direction: "server" });
		if (!(message instanceof DecodeError)) hear(core, message);
		return core.takeActions();
	}

	/** Does what the server asks of relayed channels. @returns the actions that are for others, and the relay's own */
	handle(actions: readonly ServerAction[]): RelayAction[] {
		serve(this.#core, actions);
		return this.#core.takeActions();
	}

	/** The guest signalled a connection id, and the hypervisor handed that to the paravisor. Ids of no relayed channel are nothing. */
	guestSignal(connectionId: number): RelayAction[] {
		for (const { signal } of this.#core.byOffer.values())
			if (signal?.connectionId === connectionId) this.#core.act({ type: "hostSignal", connectionId });
		return this.#core.takeActions();
	}

	/** The host set an event flag of the paravisor. Flags of no open relayed channel are nothing. */
	hostEvent(eventFlag: number): RelayAction[] {
		for (const { signal } of this.#core.byOffer.values())
			if (signal?.eventFlag === eventFlag) this.#core.act({ type: "guestEvent", vp: signal.vp, eventFlag });
		return this.#core.takeActions();
	}
}
