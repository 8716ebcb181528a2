// A simulated Modbus device: four tables and what it refuses. Answers protocol data units (function code and data) as
// the MODBUS Application Protocol Specification V1.1b3, section 6, says; written apart from the adapter's own code.

export interface DeviceOptions {
  /** Addresses in each table. */
  readonly size?: number;
  /** Ranges [first, last] that answer exception 2, by table. */
  readonly illegal?: Partial<Record<TableName, readonly (readonly [number, number])[]>>;
  /** Larger reads answer exception 3 (or `tooLongException`). */
  readonly maxRegisters?: number;
  readonly maxBits?: number;
  readonly tooLongException?: number;
  /** Function codes that answer exception 1. */
  readonly unknownFunctions?: readonly number[];
  /** Objects of the device identification, by id. */
  readonly identification?: ReadonlyMap<number, string>;
}

export type TableName = 'coil' | 'discrete' | 'input' | 'holding';

/** A protocol exception; the code is that of section 7. */
export class ModbusException extends Error {
  readonly code: number;

  constructor(code: number) {
    super(`Modbus exception ${code}`);
    this.code = code;
  }
}

export class SimDevice {
  readonly coil: Uint8Array;
  readonly discrete: Uint8Array;
  readonly input: Uint16Array;
  readonly holding: Uint16Array;
  readonly options: DeviceOptions;

  constructor(options: DeviceOptions = {}) {
    const size = options.size ?? 65_536;
    this.options = options;
    this.coil = new Uint8Array(size);
    this.discrete = new Uint8Array(size);
    this.input = new Uint16Array(size);
    this.holding = new Uint16Array(size);
  }

  /** Puts registers down from an address on. */
  set(table: TableName, address: number, values: readonly number[]): void {
    this[table].set(values, address);
  }

  /** The protocol data unit of the answer. */
  answer(request: Buffer): Buffer {
    const functionCode = request[0] ?? 0;
    try {
      if (this.options.unknownFunctions?.includes(functionCode) === true) throw new ModbusException(1);
      return this.#answer(functionCode, request);
    } catch (error) {
      if (error instanceof ModbusException) return Buffer.of(functionCode | 0x80, error.code);
      // A request that ends too soon.
      if (error instanceof RangeError) return Buffer.of(functionCode | 0x80, 3);
      throw error;
    }
  }

  #answer(functionCode: number, request: Buffer): Buffer {
    switch (functionCode) {
      case 1:
        return this.#readBits('coil', request);
      case 2:
        return this.#readBits('discrete', request);
      case 3:
        return this.#readRegisters('holding', request);
      case 4:
        return this.#readRegisters('input', request);
      case 5:
        return this.#writeCoil(request);
      case 6:
        this.#writeRegisters(request.readUInt16BE(1), [request.readUInt16BE(3)]);
        return request.subarray(0, 5);
      case 15:
        return this.#writeCoils(request);
      case 16:
        return this.#writeMultiple(request);
      case 22:
        return this.#maskWrite(request);
      case 23:
        return this.#readWrite(request);
      case 43:
        return this.#identify(request);
      default:
        throw new ModbusException(1);
    }
  }

  #checkRange(table: TableName, address: number, quantity: number): void {
    const end = address + quantity;
    if (end > this[table].length) throw new ModbusException(2);
    for (const [first, last] of this.options.illegal?.[table] ?? []) {
      if (address <= last && first < end) throw new ModbusException(2);
    }
  }

  #checkQuantity(quantity: number, specified: number, own: number | undefined): void {
    if (quantity < 1 || quantity > specified) throw new ModbusException(3);
    if (own !== undefined && quantity > own) throw new ModbusException(this.options.tooLongException ?? 3);
  }

  #readBits(table: 'coil' | 'discrete', request: Buffer): Buffer {
    const [address, quantity] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    this.#checkQuantity(quantity, 2000, this.options.maxBits);
    this.#checkRange(table, address, quantity);
    const bytes = Buffer.alloc(Math.ceil(quantity / 8));
    for (let index = 0; index < quantity; index += 1) {
      if (this[table][address + index] !== 0) bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
    }
    return Buffer.concat([Buffer.of(request[0] ?? 0, bytes.length), bytes]);
  }

  #readRegisters(table: 'holding' | 'input', request: Buffer): Buffer {
    const [address, quantity] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    this.#checkQuantity(quantity, 125, this.options.maxRegisters);
    return this.#registers(request[0] ?? 0, table, address, quantity);
  }

  #registers(functionCode: number, table: 'holding' | 'input', address: number, quantity: number): Buffer {
    this.#checkRange(table, address, quantity);
    const answer = Buffer.alloc(2 + quantity * 2);
    answer[0] = functionCode;
    answer[1] = quantity * 2;
    const registers = this[table];
    for (let index = 0; index < quantity; index += 1)
      answer.writeUInt16BE(registers[address + index] ?? 0, 2 + index * 2);
    return answer;
  }

  #writeCoil(request: Buffer): Buffer {
    const [address, value] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    if (value !== 0 && value !== 0xff00) throw new ModbusException(3);
    this.#checkRange('coil', address, 1);
    this.coil[address] = value === 0 ? 0 : 1;
    return request.subarray(0, 5);
  }

  #writeCoils(request: Buffer): Buffer {
    const [address, quantity] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    if (quantity < 1 || quantity > 1968 || request.readUInt8(5) !== Math.ceil(quantity / 8))
      throw new ModbusException(3);
    this.#checkRange('coil', address, quantity);
    for (let index = 0; index < quantity; index += 1) {
      this.coil[address + index] = (request.readUInt8(6 + (index >> 3)) >> (index & 7)) & 1;
    }
    return request.subarray(0, 5);
  }

  #writeRegisters(address: number, values: readonly number[]): void {
    this.#checkRange('holding', address, values.length);
    this.holding.set(values, address);
  }

  #writeMultiple(request: Buffer): Buffer {
    const [address, quantity] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    if (quantity < 1 || quantity > 123 || request.readUInt8(5) !== quantity * 2) throw new ModbusException(3);
    this.#writeRegisters(
      address,
      Array.from({ length: quantity }, (_, index) => request.readUInt16BE(6 + index * 2)),
    );
    return request.subarray(0, 5);
  }

  #maskWrite(request: Buffer): Buffer {
    const [address, and, or] = [request.readUInt16BE(1), request.readUInt16BE(3), request.readUInt16BE(5)];
    this.#checkRange('holding', address, 1);
    this.holding[address] = ((this.holding[address] ?? 0) & and) | (or & ~and & 0xffff);
    return request.subarray(0, 7);
  }

  #readWrite(request: Buffer): Buffer {
    const [readAddress, readQuantity] = [request.readUInt16BE(1), request.readUInt16BE(3)];
    const [writeAddress, writeQuantity] = [request.readUInt16BE(5), request.readUInt16BE(7)];
    if (writeQuantity < 1 || writeQuantity > 121 || request.readUInt8(9) !== writeQuantity * 2)
      throw new ModbusException(3);
    this.#checkQuantity(readQuantity, 125, this.options.maxRegisters);
    this.#checkRange('holding', readAddress, readQuantity);
    this.#writeRegisters(
      writeAddress,
      Array.from({ length: writeQuantity }, (_, index) => request.readUInt16BE(10 + index * 2)),
    );
    return this.#registers(23, 'holding', readAddress, readQuantity);
  }

  /** Section 6.21: stream access to the objects from one on, or one alone; a new answer whenever 245 bytes are full. */
  #identify(request: Buffer): Buffer {
    const objects = this.options.identification;
    const [mei, readCode, objectId] = [request.readUInt8(1), request.readUInt8(2), request.readUInt8(3)];
    if (objects === undefined || mei !== 14) throw new ModbusException(1);
    if (readCode < 1 || readCode > 4) throw new ModbusException(3);
    const last = { 1: 0x02, 2: 0x7f, 3: 0xff, 4: objectId }[readCode] ?? objectId;
    const wanted = [...objects].filter(([id]) => id >= objectId && id <= last).sort(([a], [b]) => a - b);
    if (wanted.length === 0) throw new ModbusException(2);
    const parts: Buffer[] = [];
    let bytes = 0;
    let next = 0;
    for (const [id, text] of wanted) {
      const part = Buffer.concat([Buffer.of(id, Buffer.byteLength(text)), Buffer.from(text)]);
      if (bytes + part.length > 245) {
        next = id;
        break;
      }
      bytes += part.length;
      parts.push(part);
    }
    return Buffer.concat([Buffer.of(43, 14, readCode, 0x83, next === 0 ? 0 : 0xff, next, parts.length), ...parts]);
  }
}
