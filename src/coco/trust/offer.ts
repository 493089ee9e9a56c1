/** What a VMBus offer says about trust: the Confidential VMBus counterpart of an accepted TDISP interface. Pure data. */
import { OfferFlag, Version, versionName } from "../../vmbus/wire/versions.ts";
import { TrustError } from "./error.ts";

/** The two flags of a channel, under the names that Linux gives them. */
export interface OfferFlags {
	/** co_ring_buffer: the ring's pages stay private. */
	readonly coRingBuffer: boolean;
	/** co_external_memory: the device model reads and writes private memory. */
	readonly coExternalMemory: boolean;
}

/** What was negotiated with the server that sent the offer. */
export interface OfferConnection {
	/** Whether this connection, as it came about, is confidential: after a fallback it is not. */
	readonly confidential: boolean;
	/** Negotiated version, major << 16 | minor. */
	readonly version: number;
}

/** Which memory a channel uses, and whether its device may reach private memory. */
export interface OfferTrust {
	readonly ring: "private" | "shared";
	readonly externalMemory: "private" | "shared";
	/** What the DMA rules see as `accepted`: external memory is private. A private ring alone changes no DMA. */
	readonly accepted: boolean;
}

/** The two flags in an offer's channel flags; there they once meant something else, so trustOfOffer judges them. */
export function offerFlags(channelFlags: number): OfferFlags {
	return {
		coRingBuffer: (channelFlags & OfferFlag.ConfidentialRingBuffer) !== 0,
		coExternalMemory: (channelFlags & OfferFlag.ConfidentialExternalMemory) !== 0,
	};
}

/**
 * Judges an offer as Linux's vmbus_onoffer does with Confidential VMBus: such an offer is dropped.
 * @throws TrustError EXTERNAL_WITHOUT_RING, VERSION_TOO_OLD, CONNECTION_NOT_CONFIDENTIAL
 */
export function trustOfOffer(flags: OfferFlags, connection: OfferConnection): OfferTrust {
	const { coRingBuffer, coExternalMemory } = flags;
	const what = `offer with co_ring_buffer=${Number(coRingBuffer)} co_external_memory=${Number(coExternalMemory)}`;
	if (coExternalMemory && !coRingBuffer) throw new TrustError(what, "EXTERNAL_WITHOUT_RING");
	if (coRingBuffer) {
		// written so that a version that is no number is too old
		if (!(connection.version >= Version.V6_0))
			throw new TrustError(what, "VERSION_TOO_OLD", `version ${versionName(connection.version)}`);
		if (!connection.confidential) throw new TrustError(what, "CONNECTION_NOT_CONFIDENTIAL");
	}
	return {
		ring: coRingBuffer ? "private" : "shared",
		externalMemory: coExternalMemory ? "private" : "shared",
		accepted: coExternalMemory,
	};
}
