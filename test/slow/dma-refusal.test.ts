import "../dma/refusal.test.ts";
