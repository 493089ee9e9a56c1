import "../vmbus/guest-hostile.test.ts";
