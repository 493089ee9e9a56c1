/** What VMBus channels claim, for fallback-claims-nothing and external-needs-ring. */
import type { OfferConnection, OfferTrust } from "../coco/trust/offer.ts";
import { Version, versionName } from "../vmbus/wire/versions.ts";
import type { PropertyName } from "./properties.ts";
import type { Watch } from "./watch.ts";

/** A channel as the guest uses it. */
export interface ChannelClaim extends Pick<OfferTrust, "ring" | "externalMemory"> {
	/** What people call it. */
	readonly name: string;
	/** Its connection: read at each look, since it may fall back. */
	readonly connection: OfferConnection;
}

/** What a channel claims and may not. */
export function* badClaims({ name, ring, externalMemory, connection }: ChannelClaim): Generator<{
	readonly property: Extract<PropertyName, "fallback-claims-nothing" | "external-needs-ring">;
	readonly text: string;
}> {
	const claims = [
		...(ring === "private" ? ["an encrypted ring"] : []),
		...(externalMemory === "private" ? ["encrypted external memory"] : []),
	].join(" and ");
	if (claims !== "" && !(connection.confidential && connection.version >= Version.V6_0)) {
		const { version } = connection;
		const why = connection.confidential ? `has version ${versionName(version)}` : "is not confidential";
		yield { property: "fallback-claims-nothing", text: `"${name}" claims ${claims}, and its connection ${why}` };
	}
	if (externalMemory === "private" && ring === "shared")
		yield { property: "external-needs-ring", text: `"${name}" has encrypted external memory and a shared ring` };
}

/** The claims of devices that came by an offer. */
export function claimsOf({ guest }: Watch): ChannelClaim[] {
	return guest.devices.flatMap(({ name, offer, options }) =>
		offer === null || options.offer === undefined ? [] : [{ ...offer, name, connection: options.offer.connection }],
	);
}
