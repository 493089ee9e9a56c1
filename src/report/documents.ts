/**
 * What commands write with --json. The first field names the schema (docs/schema/NAME.VERSION.json): a new field keeps the
 * version, one that goes or comes to mean something else raises it. Numbers are written exactly.
 */
import type { AuditReport } from "../study/audit.ts";
import type { Comparison, PolicyComparison } from "../study/compare.ts";
import type { ExplainReport } from "../study/explain.ts";
import type { Matrix, NamedModifier, PolicyHeader } from "../study/matrix.ts";
import type { VerifyResult } from "../verify/result.ts";
import type { Decoded } from "../vmbus/decode/decoded.ts";
import type {
	CallEvent,
	FlagEvent,
	MessageEvent,
	NoteEvent,
	PacketEvent,
	PagesEvent,
	RegisterEvent,
	RelayEvent,
	ServedEvent,
} from "../vmbus/system/events.ts";
import type { SystemPlatform } from "../vmbus/system/options.ts";
import type { SystemState } from "../vmbus/system/stage.ts";
import type { Build } from "../wasm.ts";
import type { Environment } from "./environment.ts";
import type { DecodedItem } from "./vmbus-decoded.ts";

/** `coco-dma compare`. */
export interface CompareDocument extends Comparison {
	readonly command: "compare";
	readonly environment: Environment;
}

/** `coco-dma compare --policy`. */
export interface ComparePoliciesDocument extends PolicyComparison {
	readonly command: "compare";
	readonly environment: Environment;
}

/** `coco-dma audit`. */
export interface AuditDocument extends AuditReport {
	readonly command: "audit";
	readonly environment: Environment;
}

/** `coco-dma policies`. */
export interface PoliciesDocument extends Matrix {
	readonly command: "policies";
	readonly environment: Environment;
	/** First 16 hex digits of the release build's SHA-256. */
	readonly engineHash: string;
}

/** `coco-dma policies --list`. */
export interface PoliciesListDocument {
	readonly schema: "coco-dma/policies-list/2";
	readonly command: "policies";
	readonly policies: readonly PolicyHeader[];
	readonly modifiers: readonly NamedModifier[];
}

/** `coco-dma explain`. */
export interface ExplainDocument extends ExplainReport {
	readonly command: "explain";
	readonly environment: Environment;
}

/** `coco-dma verify`. */
export interface VerifyDocument {
	readonly schema: "coco-dma/verify/1";
	readonly command: "verify";
	readonly environment: Environment;
	readonly options: { readonly build: Build };
	/** First 16 hex digits of the build's SHA-256. */
	readonly engineHash: string;
	/** Whether every file could be read and none differs. */
	readonly identical: boolean;
	readonly results: readonly VerifyResult[];
	/** Files that could not be read. */
	readonly errors: readonly { readonly file: string; readonly error: string }[];
}

/** `coco-dma vmbus decode`. */
export interface VmbusDecodeDocument {
	readonly schema: "coco-dma/vmbus-decode/1";
	readonly command: "vmbus decode";
	readonly items: readonly (Decoded & Omit<DecodedItem, "decoded">)[];
}

/** Bytes as hex digits, 64-bit numbers as 0x text. */
type AsText<Event, Name extends keyof Event> = Omit<Event, Name> & { readonly [Field in Name]: string };

/** What happens in a system, as JSON has it. */
export type PlainEvent = (
	| AsText<CallEvent, "payload">
	| AsText<MessageEvent, "payload">
	| AsText<RelayEvent, "payload">
	| FlagEvent
	| AsText<RegisterEvent, "value">
	| PagesEvent
	| AsText<PacketEvent, "bytes">
	| ServedEvent
	| NoteEvent
) & {
	/** The system's clock (ns). */
	readonly timeNs: number;
};

/** `coco-dma vmbus demo`. */
export interface VmbusDemoDocument extends SystemState {
	readonly schema: "coco-dma/vmbus-demo/1";
	readonly command: "vmbus demo";
	readonly scenario: string;
	readonly about: string;
	readonly platform: SystemPlatform;
	/** step counts from 1; text: the step as a person reads it. */
	readonly events: readonly (PlainEvent & { readonly step: number; readonly text: string })[];
}
