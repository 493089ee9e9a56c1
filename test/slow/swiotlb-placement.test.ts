import "../swiotlb/placement.test.ts";
