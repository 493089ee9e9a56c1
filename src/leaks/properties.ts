/** The 28 properties of confidential DMA that a monitor watches. */

/**
 * breach: data of an accepted device that others could read. exposure: what an untrusted device exposes as designed,
 * counted. fault: a rule of the kernel, the platform or the DMA API was broken.
 */
export type PropertyKind = "breach" | "exposure" | "fault";

export interface Property {
	/** 1 .. 28 */
	readonly number: number;
	/** Stable, for programs. */
	readonly name: string;
	/** What holds where nothing is reported. */
	readonly text: string;
	/** Of a finding about an untrusted device; exposures of an accepted one are breaches. */
	readonly kind: PropertyKind;
	/** Where the rule is from. */
	readonly source: string;
}

const SWIOTLB = "Linux 6.12 kernel/dma/swiotlb.c";
const DIRECT = "Linux 6.12 kernel/dma/direct.c and direct.h";
const LATE = "the series merged for Linux 7.3 (d5fd03cdd6c0, 20beb6884b83)";
const DMA_API = "Linux 6.12 Documentation/core-api/dma-api.rst";
const SWIOTLB_RST = "Linux 6.12 Documentation/core-api/swiotlb.rst";
const COCO_RST = "Linux 6.12 Documentation/virt/hyperv/coco.rst";
const CONFIDENTIAL_VMBUS = "Confidential VMBus in coco.rst, as posted in August 2025";
const TRUST = "discussion of device trust on linux-coco, April 2025 and February 2026";
const POOLS = "discussion of restricted pools and pKVM on linux-coco, May 2026";
const DERIVED = "derived from";

/** name, kind, text, source: property 1 first. */
const ROWS = [
	["private-stays-private", "breach", "no byte of an accepted device's private pages is ever on a shared page", TRUST],
	["no-t1-data-in-t0-window", "breach", "no data of a T=1 device reaches the DMA window of a T=0 device", POOLS],
	["residue-in-freed-slots", "exposure", "freed shared slots hold no private bytes", SWIOTLB],
	["from-device-starts-as-copy", "fault", "a copy back brings only bytes that came to this mapping", SWIOTLB],
	[
		"initial-copy-shows-old-contents",
		"exposure",
		"the copy that starts a FROM_DEVICE mapping shows nothing private",
		`${DERIVED} ${SWIOTLB}`,
	],
	["padding-residue", "exposure", "the padding of a mapping's shared slots holds no private bytes", SWIOTLB_RST],
	["sub-page-exposure", "exposure", "pages shared for a buffer hold nothing private beside it", POOLS],
	["slot-has-one-owner", "fault", "no slot serves two mappings, no mapping crosses a slot set or boundary", SWIOTLB],
	["lists-consistent", "fault", "free runs, slots in use and live mappings tell the same", SWIOTLB],
	["alignment-kept", "fault", "a bounce address has the original's bits under min_align_mask", SWIOTLB],
	[
		"address-within-mask",
		"fault",
		"an address is within mask and bus limit, its encoding included",
		"Linux 6.12 include/linux/dma-direct.h",
	],
	["encoding-equals-state", "fault", "an address has the form of the pages that it names", LATE],
	["pool-state-equals-need", "fault", "a device bounces only in a pool whose state it needs", LATE],
	["nothing-held-across-trust-change", "fault", "a device holds nothing while its trust changes", TRUST],
	["t1-only-in-run", "fault", "private memory answers a device only while it is accepted and in RUN", TRUST],
	[
		"leaked-never-reused",
		"fault",
		"a page whose conversion failed never is free again",
		`${DIRECT}, and after the 7.3 merge`,
	],
	["no-touch-in-transition", "fault", "nobody touches a page that is in transition or leaked", COCO_RST],
	[
		"double-fetch",
		"fault",
		"an operation reads a shared byte once",
		`${DERIVED} the host's right to write shared pages at any time`,
	],
	["sync-ordering", "fault", "device and CPU touch a mapped buffer only while it is theirs", DMA_API],
	[
		"skip-sync-keeps-data",
		"fault",
		"an unmap that skips the copy back loses nothing that the driver reads later",
		DMA_API,
	],
	[
		"use-after-unmap",
		"fault",
		"a device touches no slot or buffer without a live mapping of it",
		`${DERIVED} ${SWIOTLB}`,
	],
	["force-never-redirects-accepted", "breach", "swiotlb=force puts no accepted device's data in a shared pool", TRUST],
	[
		"fallback-claims-nothing",
		"fault",
		"no channel of a connection that is not confidential claims to be",
		CONFIDENTIAL_VMBUS,
	],
	["external-needs-ring", "fault", "confidential external memory comes with a confidential ring", CONFIDENTIAL_VMBUS],
	["write-beyond-mapping", "fault", "a copy back ends where the mapped buffer ends", SWIOTLB],
	["counters-return-to-zero", "fault", "when all mappings have ended nothing counts as used", SWIOTLB],
	[
		"paravisor-page-unmapped",
		"breach",
		"a page that the host does not map stays so while it holds data",
		CONFIDENTIAL_VMBUS,
	],
	["accepted-coherent-private", "breach", "coherent buffers of an accepted device are private", `${DERIVED} ${DIRECT}`],
] as const satisfies readonly (readonly [string, PropertyKind, string, string])[];

/** All properties, number 1 first. */
export const PROPERTIES: readonly Property[] = ROWS.map(([name, kind, text, source], i) => ({
	number: i + 1,
	name,
	kind,
	text,
	source,
}));

/** A property by its number. @throws RangeError for none of 1 .. 28 */
export function propertyOf(number: number): Property {
	const property = PROPERTIES[number - 1];
	if (property === undefined) throw new RangeError(`properties have the numbers 1 to 28, not ${number}`);
	return property;
}
