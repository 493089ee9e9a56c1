import "../study/replay.test.ts";
