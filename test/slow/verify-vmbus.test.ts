import "../verify/vmbus.test.ts";
