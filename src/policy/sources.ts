/** The mails, commits and pages that policies come from, each once. What a mail's Message-ID is not known of has none. */
import { commit, mailById, mailBySubject, type Reference } from "../coco/rules/reference.ts";

const HYPERV = ["linux-hyperv", "linux-kernel"];

/** Roman Kisel's first series: patches 5 and 6 keep a device from bouncing. */
export const KISEL_V1: readonly Reference[] = [
	mailBySubject("[PATCH hyperv-next 0/6] Confidential VMBus", {
		by: "Roman Kisel",
		date: "2025-04-08",
		lists: HYPERV,
		url: "https://lkml.iu.edu/hypermail/linux/kernel/2504.1/02097.html",
	}),
	mailBySubject("[PATCH hyperv-next 5/6] arch, drivers: Add device struct bitfield to not bounce-buffer", {
		by: "Roman Kisel",
		date: "2025-04-08",
		lists: HYPERV,
	}),
];

/** What Christoph Hellwig, Robin Murphy, Dan Williams and Michael Kelley answered to patch 5. */
export const BITFIELD_THREAD = mailBySubject(
	"Re: [PATCH hyperv-next 5/6] arch, drivers: Add device struct bitfield to not bounce-buffer",
	{ by: "Christoph Hellwig, Robin Murphy, Dan Williams, Michael Kelley", date: "2025-04", lists: HYPERV },
);

/** Confidential VMBus as documented. */
export const KISEL_DOCS = mailById(
	"20250828010557.123869-2-romank@linux.microsoft.com",
	"[PATCH hyperv-next v5 01/16] Documentation: hyperv: Confidential VMBus",
	{ by: "Roman Kisel", date: "2025-08-27", lists: HYPERV },
);

/** Tianyu Lan's first version: operations of the bus. Its subject and its Message-ID are not known here. */
export const LAN_V1: Reference = {
	kind: "mail",
	title: "RFC of November 2025: DMA operations of the VMBus, for confidential external memory",
	by: "Tianyu Lan",
	date: "2025-11",
};

export const LAN_V2 = mailById(
	"20260210162107.2270823-1-ltykernel@gmail.com",
	"[RFC PATCH V2] x86/VMBus: Confidential VMBus for dynamic DMA buffer transition",
	{ by: "Tianyu Lan", date: "2026-02-10", lists: HYPERV },
);

export const KELLEY_ON_V2 = mailBySubject(
	"RE: [RFC PATCH V2] x86/VMBus: Confidential VMBus for dynamic DMA buffer transition",
	{
		by: "Michael Kelley",
		date: "2026-02-11",
		lists: HYPERV,
		url: "https://mail-archive.com/linux-hyperv@vger.kernel.org/msg06703.html",
	},
);

export const MURPHY_ON_V2 = mailBySubject(
	"Re: [RFC PATCH V2] x86/VMBus: Confidential VMBus for dynamic DMA buffer transition",
	{ by: "Robin Murphy", date: "2026-02-11", lists: HYPERV },
);

/** The answer that asks device_cc_accepted() in the predicates, and shows a prototype of two allocators. */
export const ANEESH_ON_V2 = mailBySubject(
	"Re: [RFC PATCH V2] x86/VMBus: Confidential VMBus for dynamic DMA buffer transition",
	{
		by: "Aneesh Kumar K.V",
		date: "2026-02-16",
		lists: HYPERV,
		url: "https://lore-kernel.gnuweeb.org/all/yq5a5x7xq997.fsf@kernel.org/T/",
	},
);

export const LAN_V3 = mailBySubject("[RFC PATCH V3] x86/VMBus: Confidential VMBus for dynamic DMA transfers", {
	by: "Tianyu Lan",
	date: "2026-03-25",
	lists: ["iommu", ...HYPERV],
});

/** What was answered to it: a comparison where an assignment was meant, and a layering violation. */
export const ON_V3: readonly Reference[] = [
	mailBySubject("Re: [RFC PATCH V3] x86/VMBus: Confidential VMBus for dynamic DMA transfers", {
		by: "Easwar Hariharan",
		date: "2026-03-26",
		lists: ["iommu", ...HYPERV],
		url: "https://lore-kernel.gnuweeb.org/linux-hyperv/75c6dd78-bbae-4f5a-94ef-9de299720d38@linux.microsoft.com/T",
	}),
	mailBySubject("Re: [RFC PATCH V3] x86/VMBus: Confidential VMBus for dynamic DMA transfers", {
		by: "Leon Romanovsky",
		date: "2026-03-25",
		lists: ["iommu", ...HYPERV],
		url: "https://lkml.iu.edu/2603.3/03111.html",
	}),
];

/** device_cc_accept(), as posted. */
export const CC_ACCEPT: readonly Reference[] = [
	mailBySubject("[PATCH v2 03/19] device core: Introduce confidential device acceptance", {
		by: "Dan Williams",
		date: "2026-03-02",
		lists: ["linux-coco", "linux-pci"],
	}),
	mailById(
		"69b38e7427a61_b2b610073@dwillia2-mobl4.notmuch",
		"Re: [PATCH v2 03/19] device core: Introduce confidential device acceptance",
		{ by: "Dan Williams", date: "2026-03-12", lists: ["linux-coco", "linux-pci"] },
	),
];

const POOL_STATE = "dma: swiotlb: track pool encryption state and honor DMA_ATTR_CC_SHARED";

export const POOL_STATE_V4 = mailById(
	"20260512090408.794195-5-aneesh.kumar@kernel.org",
	`[PATCH v4 04/13] ${POOL_STATE}`,
	{ by: "Aneesh Kumar K.V", date: "2026-05-12" },
);

/** Mostafa Saleh's and Jason Gunthorpe's exchange about version 4. */
export const ON_POOL_STATE_V4: readonly Reference[] = [
	mailById("20260513172450.GR7702@ziepe.ca", `Re: [PATCH v4 04/13] ${POOL_STATE}`, {
		by: "Jason Gunthorpe",
		date: "2026-05-13",
	}),
	mailById("20260514123529.GZ7702@ziepe.ca", `Re: [PATCH v4 04/13] ${POOL_STATE}`, {
		by: "Jason Gunthorpe",
		date: "2026-05-14",
	}),
];

/** An SME host's pool, and force_dma_unencrypted() with two meanings. */
export const SME_THREAD = mailBySubject(
	"Re: [PATCH v6 00/20] dma-mapping: Use DMA_ATTR_CC_SHARED through direct, pool and swiotlb paths",
	{
		by: "Jason Gunthorpe",
		date: "2026-06-30",
		url: "https://lkml.iu.edu/hypermail/linux/kernel/2606.3/12273.html",
	},
);

/** What Linux 7.3 has of it. */
export const MERGED_7_3: readonly Reference[] = [
	mailBySubject("[PATCH v7 00/22] dma-mapping: Track shared DMA state through direct, pool and swiotlb paths", {
		by: "Aneesh Kumar K.V",
		date: "2026-07-01",
		lists: ["linux-arm-kernel", "linux-coco", "linux-iommu", "linux-s390"],
		url: "https://ratatoskr.run/linuxppc-dev/2026/07/17196738",
	}),
	commit("d5fd03cdd6c0", "pools know their state, and DMA_ATTR_CC_SHARED counts"),
	commit("20beb6884b83", "dma_capable() is given the attributes"),
	commit("04a19b35dc05", "SWIOTLB_FORCE goes"),
];

export const ZEROCOPY_TX: readonly Reference[] = [
	mailBySubject("[PATCH] swiotlb: avoid double copy with swiotlb on tx socket", {
		by: "Luigi Rizzo",
		date: "2026-06-15",
		lists: ["netdev", "linux-mm", "iommu", "driver-core", "linux-kernel"],
	}),
	mailBySubject("Re: [PATCH] swiotlb: avoid double copy with swiotlb on tx socket", {
		by: "Eric Dumazet",
		date: "2026-06-16",
		url: "https://lkml.iu.edu/hypermail/linux/kernel/2606.2/00006.html",
	}),
];

/** Measured much slower than copying. */
export const SHARING_MEASURED: Reference = {
	kind: "mail",
	title: "a reply of June 2026: pages shared in place instead of bouncing, measured",
	by: "Mostafa Saleh",
	date: "2026-06",
};

export const BUS_POOL_PULL: Reference = {
	kind: "page",
	title: "WSL2-Linux-Kernel, pull request 260",
	url: "https://github.com/microsoft/WSL2-Linux-Kernel/pull/260",
};
