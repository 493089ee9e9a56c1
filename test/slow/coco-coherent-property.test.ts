import "../coco/coherent-property.test.ts";
