/** What the values of message fields mean, in words. */
import { deviceTypeName } from "../wire/guid.ts";
import { ConnectionState, NO_INTERRUPT_VP, NO_MONITOR_ID, OpenFlag } from "../wire/values.ts";
import { Feature, flagNames, OfferFlag, Version, versionName } from "../wire/versions.ts";

type Values = Readonly<Record<string, unknown>>;

const CONNECTION_STATES: Readonly<Record<number, string>> = {
	[ConnectionState.Ok]: "ok",
	[ConnectionState.LowResources]: "low resources",
	[ConnectionState.UnknownFailure]: "unknown failure",
};

function ofVersion(value: number): string {
	const known = (Object.values(Version) as number[]).includes(value);
	return `version ${versionName(value)}${known ? "" : ", unknown"}`;
}

function ofTarget(vp: number): string {
	return vp === NO_INTERRUPT_VP ? "no interrupts" : "";
}

const MEANINGS: Readonly<Record<string, (value: number, values: Values) => string>> = {
	version: ofVersion,
	featureFlags: (value) => flagNames(Feature, value).join(" "),
	flags: (value) => flagNames(OfferFlag, value).join(" "),
	openFlags: (value) => flagNames(OpenFlag, value).join(" "),
	status: (value) => (value === 0 ? "success" : "failure"),
	connectionState: (value) => CONNECTION_STATES[value] ?? "unknown state",
	supported: (value) => (value === 0 ? "no" : "yes"),
	targetVp: ofTarget,
	subChannelIndex: (value) => (value === 0 ? "primary channel" : "subchannel"),
	monitorId: (value, { monitorAllocated }) => (value === NO_MONITOR_ID || monitorAllocated === 0 ? "none" : ""),
	monitorAllocated: (value) => ((value & 1) === 0 ? "no" : "yes"),
	dedicatedInterrupt: (value) => ((value & 1) === 0 ? "no" : "yes"),
	downstreamPage: (value) => `the guest-to-host ring takes ${value} pages`,
	connectionIdOrVersion: (value) =>
		value > 0xffff && value < 0x800000 ? ofVersion(value) : "connection id of later messages",
	rangeCount: (value) => (value === 1 ? "one range" : `${value} ranges`),
	rangeBytes: (value) => `${value / 8} quadwords in header and bodies`,
};

/** Fields that people read in hex. */
export const IN_HEX: ReadonlySet<string> = new Set([
	"version",
	"featureFlags",
	"flags",
	"openFlags",
	"status",
	"gpadl",
	"ringGpadl",
	"connectionId",
	"connectionIdOrVersion",
	"interruptPage",
]);

/** A number as people read it. */
export function valueText(name: string, value: number): string {
	return IN_HEX.has(name) ? `0x${value.toString(16)}` : String(value);
}

/** What a field's value says, or "". */
export function meaningOf(name: string, value: unknown, values: Values): string {
	if (name === "interfaceId") return deviceTypeName(value as string) ?? "";
	return typeof value === "number" ? (MEANINGS[name]?.(value, values) ?? "") : "";
}
