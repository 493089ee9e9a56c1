import "../coco/parties-property.test.ts";
