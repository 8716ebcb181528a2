// Who a device says it is: function 43, MEI type 14 (MODBUS Application Protocol Specification V1.1b3, 6.21).

import { frameFault } from './faults.ts';
import type { IdentifyRequest } from './pdu.ts';

/** Names of the objects that the specification gives a meaning. */
const OBJECT_NAMES: Readonly<Record<number, string>> = {
  0: 'vendor_name',
  1: 'product_code',
  2: 'revision',
  3: 'vendor_url',
  4: 'product_name',
  5: 'model_name',
  6: 'user_application_name',
};

/** What a device told of itself, by `vendor_name`, `product_code`, … or `object_N` for the vendor's own. */
export type DeviceIdentification = Readonly<Record<string, string>>;

interface IdentificationPage {
  readonly conformityLevel: number;
  readonly moreFollows: boolean;
  readonly nextObjectId: number;
  readonly objects: ReadonlyMap<number, string>;
}

/** MEI type, read code, conformity level, more follows, next object id, number of objects. */
const HEADER_BYTES = 6;
const MEI_TYPE = 0x0e;
/** Ids 0 to 2 are basic, up to 0x7f regular, above extended. */
const REGULAR = 2;
/** Answers to one identification; devices that never end are cut off here. */
const MAX_PAGES = 64;

/**
 * Reads the basic and, where the device has them, the regular objects.
 * @throws GatewayError GW_MODBUS_EXCEPTION when the device has no identification (exception 1), GW_MODBUS_FRAME, and what
 * `exchange` throws.
 */
export async function identifyDevice(
  exchange: (request: IdentifyRequest) => Promise<Uint8Array>,
): Promise<DeviceIdentification> {
  const result: Record<string, string> = {};
  let conformityLevel = 0;
  for (const readCode of [1, REGULAR] as const) {
    // The upper bit says that objects may be read one by one too.
    if (readCode > 1 && (conformityLevel & 0x7f) < readCode) break;
    let objectId = 0;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = parsePage(await exchange({ functionCode: 43, readCode, objectId }));
      conformityLevel = answer.conformityLevel;
      for (const [id, text] of answer.objects) result[OBJECT_NAMES[id] ?? `object_${id}`] = text;
      // A device that says "more" without going on would never end.
      if (!answer.moreFollows || answer.nextObjectId <= objectId) break;
      objectId = answer.nextObjectId;
    }
  }
  return result;
}

function parsePage(bytes: Uint8Array): IdentificationPage {
  if (bytes.length < HEADER_BYTES || bytes[0] !== MEI_TYPE) throw frameFault('length');
  const objects = new Map<number, string>();
  // The number of objects is not relied on: some devices count those of all answers (the example of 6.21 does).
  let start = HEADER_BYTES;
  while (start + 2 <= bytes.length) {
    const id = bytes[start] ?? 0;
    const end = start + 2 + (bytes[start + 1] ?? 0);
    if (end > bytes.length) throw frameFault('truncated');
    objects.set(id, printable(bytes.subarray(start + 2, end)));
    start = end;
  }
  return {
    conformityLevel: bytes[2] ?? 0,
    moreFollows: (bytes[3] ?? 0) !== 0,
    nextObjectId: bytes[4] ?? 0,
    objects,
  };
}

/** Objects are ASCII; control characters of sloppy devices are left out. */
function printable(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('latin1')
    .replaceAll(/[^\x20-\x7e\xa0-\xff]/g, '')
    .trim();
}
