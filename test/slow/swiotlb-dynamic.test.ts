import "../swiotlb/dynamic.test.ts";
