/** What a server is set up with. */
import { MAX_CONNECTION_ID } from "../../synic/connections.ts";
import { VMBUS_SINT } from "../../synic/registers.ts";
import { ConnectionId, Feature, Version } from "../wire/versions.ts";

/** A connection id that guests may post to. */
interface Port {
	readonly connectionId: number;
	/** Whether INITIATE_CONTACT on it names its SINT and VTL. */
	readonly multiclient: boolean;
}

export interface ServerConfig {
	/** Versions that the server speaks. Default: all eleven. */
	readonly versions?: readonly number[];
	/** Features granted on request. Default: 0x6f, all but confidential channels and GPA pinning. */
	readonly features?: number;
	/** Grant Feature.ConfidentialChannels to trusted contacts. Only a paravisor's server may. Default false. */
	readonly confidential?: boolean;
	/** The connection id of the guest's later messages, told from 5.0 on: that of a port. Default 1. */
	readonly messageConnectionId?: number;
	/** Default: 1, and 4 (multiclient). None: the server hears nobody. */
	readonly ports?: readonly Port[];
	/** VTL of the guest that the server serves. Default 0. */
	readonly vtl?: number;
	/** SINT that channel messages and events use. Default 2. */
	readonly sint?: number;
	/** Quadwords (one a page, one a range) of all GPADLs together: what a guest can make the server hold. Default 2^22. */
	readonly maxGpadlPages?: number;
	/** Give monitor ids only to a guest that takes the server's own monitor pages: its own are private. Default false. */
	readonly serverMonitorPagesOnly?: boolean;
	/**
	 * Send offer flags 0x2 and 0x4 as they are: before 6.0 they meant transfer pages and GPADLs. For servers without 6.0 only.
	 * Default false: cleared unless confidential channels were negotiated.
	 */
	readonly oldOfferFlags?: boolean;
}

export type FullConfig = { readonly [K in keyof ServerConfig]-?: NonNullable<ServerConfig[K]> };

/** OpenVMM vmbus_server/src/channels.rs, SUPPORTED_FEATURE_FLAGS. */
const DEFAULT_FEATURES =
	Feature.GuestSpecifiedSignalParameters |
	Feature.ChannelInterruptRedirection |
	Feature.ModifyConnection |
	Feature.ClientId |
	Feature.PauseResume |
	Feature.ServerSpecifiedMonitorPages;

/** Fills in defaults. @throws RangeError that names the option */
export function fullConfig(options: ServerConfig): FullConfig {
	const whole = (name: string, value: number, least: number, most: number): number => {
		if (!Number.isInteger(value) || value < least || value > most)
			throw new RangeError(`${name}: expected a whole number from ${least} to ${most}, not ${value}`);
		return value;
	};
	const versions = options.versions ?? Object.values(Version);
	const unknown = versions.find((version) => !(Object.values(Version) as number[]).includes(version));
	if (unknown !== undefined) throw new RangeError(`versions: 0x${unknown.toString(16)} is no VMBus version`);
	const features = whole("features", options.features ?? DEFAULT_FEATURES, 0, 0xff);
	if ((features & Feature.ConfidentialChannels) !== 0)
		throw new RangeError("features: say `confidential` for channels that only trusted contacts get");
	const oldOfferFlags = options.oldOfferFlags ?? false;
	if (oldOfferFlags && versions.includes(Version.V6_0))
		throw new RangeError("oldOfferFlags: in version 6.0 the flags mean confidential channels");
	const messageConnectionId = whole(
		"messageConnectionId",
		options.messageConnectionId ?? ConnectionId.Message,
		1,
		MAX_CONNECTION_ID,
	);
	const ports = options.ports ?? [
		{ connectionId: ConnectionId.Message, multiclient: false },
		{ connectionId: ConnectionId.Message4, multiclient: true },
	];
	if (ports.length > 0 && !ports.some(({ connectionId }) => connectionId === messageConnectionId))
		throw new RangeError(`messageConnectionId: 0x${messageConnectionId.toString(16)} is no port`);
	return {
		versions: [...versions],
		features,
		confidential: options.confidential ?? false,
		messageConnectionId,
		ports: ports.map((port) => ({ ...port })),
		vtl: whole("vtl", options.vtl ?? 0, 0, 2),
		sint: whole("sint", options.sint ?? VMBUS_SINT, 0, 15),
		maxGpadlPages: whole("maxGpadlPages", options.maxGpadlPages ?? 2 ** 22, 1, 2 ** 31),
		serverMonitorPagesOnly: options.serverMonitorPagesOnly ?? false,
		oldOfferFlags,
	};
}
