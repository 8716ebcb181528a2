// What may be asked of a Modbus server: the requests of this adapter, one shape a function code
// (MODBUS Application Protocol Specification V1.1b3, section 6).

import type { RegisterTable } from './address.ts';

/** Unit id of a serial broadcast: every server obeys, none answers (Modbus over Serial Line V1.02, 2.2). */
export const BROADCAST_UNIT = 0;
/** Registers in one read (6.3 and 6.4). */
export const READ_REGISTERS_MAX = 125;
/** Coils or discrete inputs in one read (6.1 and 6.2). */
export const READ_BITS_MAX = 2000;
/** Registers in one write (6.12). */
export const WRITE_REGISTERS_MAX = 123;

/** Read coils (1), discrete inputs (2), holding registers (3) or input registers (4): sections 6.1 to 6.4. */
export interface ReadRequest {
  readonly functionCode: 1 | 2 | 3 | 4;
  readonly address: number;
  /** 1 to 2000 bits or 1 to 125 registers. */
  readonly quantity: number;
}

export interface WriteCoilRequest {
  readonly functionCode: 5;
  readonly address: number;
  readonly on: boolean;
}

export interface WriteRegisterRequest {
  readonly functionCode: 6;
  readonly address: number;
  readonly value: number;
}

export interface WriteCoilsRequest {
  readonly functionCode: 15;
  readonly address: number;
  /** 1 to 1968. */
  readonly states: readonly boolean[];
}

export interface WriteRegistersRequest {
  readonly functionCode: 16;
  readonly address: number;
  /** 1 to 123. */
  readonly values: readonly number[];
}

/** New content = (old AND andMask) OR (orMask AND NOT andMask): section 6.16. */
export interface MaskWriteRequest {
  readonly functionCode: 22;
  readonly address: number;
  readonly andMask: number;
  readonly orMask: number;
}

/** The write happens before the read, in one exchange: section 6.17. */
export interface ReadWriteRequest {
  readonly functionCode: 23;
  readonly readAddress: number;
  /** 1 to 125 registers. */
  readonly readQuantity: number;
  readonly writeAddress: number;
  /** 1 to 121. */
  readonly values: readonly number[];
}

/** Read device identification (function 43, MEI type 14): section 6.21. */
export interface IdentifyRequest {
  readonly functionCode: 43;
  /** 1 basic, 2 regular, 3 extended, 4 one object. */
  readonly readCode: 1 | 2 | 3 | 4;
  readonly objectId: number;
}

export type ModbusRequest =
  | ReadRequest
  | WriteCoilRequest
  | WriteRegisterRequest
  | WriteCoilsRequest
  | WriteRegistersRequest
  | MaskWriteRequest
  | ReadWriteRequest
  | IdentifyRequest;

/** Bytes of a whole RTU answer (unit, function, data, CRC) to that request; undefined when only the answer tells. */
export function answerBytes(request: ModbusRequest): number | undefined {
  switch (request.functionCode) {
    case 1:
    case 2:
      return 5 + Math.ceil(request.quantity / 8);
    case 3:
    case 4:
      return 5 + 2 * request.quantity;
    case 5:
    case 6:
    case 15:
    case 16:
      return 8;
    case 22:
      return 10;
    case 23:
      return 5 + 2 * request.readQuantity;
    case 43:
      return undefined;
  }
}

const READ_FUNCTIONS = { coil: 1, discrete: 2, holding: 3, input: 4 } as const satisfies Record<RegisterTable, number>;

/** The function that reads a table. */
export function readFunction(table: RegisterTable): ReadRequest['functionCode'] {
  return READ_FUNCTIONS[table];
}

/** Names of the functions, for metrics and people (section 6). */
export const FUNCTION_NAMES: Readonly<Record<ModbusRequest['functionCode'], string>> = {
  1: 'read_coils',
  2: 'read_discrete_inputs',
  3: 'read_holding_registers',
  4: 'read_input_registers',
  5: 'write_single_coil',
  6: 'write_single_register',
  15: 'write_multiple_coils',
  16: 'write_multiple_registers',
  22: 'mask_write_register',
  23: 'read_write_multiple_registers',
  43: 'read_device_identification',
};
