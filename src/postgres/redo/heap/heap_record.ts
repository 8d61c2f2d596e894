/**
 * Heap records: opcodes, flags and sizes.
 *
 * Both paths. Layouts are drawn on top of the file that replays them; here is what they share. Sizes are `SizeOf…` of
 * the C structs: what the record holds, without the padding at a struct's end.
 *
 * Source: PostgreSQL src/include/access/heapam_xlog.h (14-18). Opcodes of heap2 were renamed in 17, where
 * `XLOG_HEAP2_PRUNE`, `..._VACUUM` and `..._FREEZE_PAGE` became three reasons for one kind of record.
 *
 * @module
 */
export const XLOG_HEAP_INSERT = 0x00;
export const XLOG_HEAP_DELETE = 0x10;
export const XLOG_HEAP_UPDATE = 0x20;
export const XLOG_HEAP_TRUNCATE = 0x30;
export const XLOG_HEAP_HOT_UPDATE = 0x40;
export const XLOG_HEAP_CONFIRM = 0x50;
export const XLOG_HEAP_LOCK = 0x60;
export const XLOG_HEAP_INPLACE = 0x70;

export const XLOG_HEAP2_REWRITE = 0x00;
/** 17 and later: `XLOG_HEAP2_PRUNE_ON_ACCESS`. */
export const XLOG_HEAP2_PRUNE = 0x10;
/** 17 and later: `XLOG_HEAP2_PRUNE_VACUUM_SCAN`. */
export const XLOG_HEAP2_VACUUM = 0x20;
/** 17 and later: `XLOG_HEAP2_PRUNE_VACUUM_CLEANUP`. */
export const XLOG_HEAP2_FREEZE_PAGE = 0x30;
export const XLOG_HEAP2_VISIBLE = 0x40;
export const XLOG_HEAP2_MULTI_INSERT = 0x50;
export const XLOG_HEAP2_LOCK_UPDATED = 0x60;
export const XLOG_HEAP2_NEW_CID = 0x70;

export const XLOG_HEAP_OPMASK = 0x70;
/** With INSERT, UPDATE and MULTI_INSERT: the page of the new tuple is laid out anew. */
export const XLOG_HEAP_INIT_PAGE = 0x80;

export const XLH_INSERT_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_INSERT_ALL_FROZEN_SET = 0x20;

export const XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED = 0x02;
export const XLH_UPDATE_PREFIX_FROM_OLD = 0x20;
export const XLH_UPDATE_SUFFIX_FROM_OLD = 0x40;

export const XLH_DELETE_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_DELETE_IS_SUPER = 0x08;
export const XLH_DELETE_IS_PARTITION_MOVE = 0x10;

export const XLH_LOCK_ALL_FROZEN_CLEARED = 0x01;

// infobits_set
export const XLHL_XMAX_IS_MULTI = 0x01;
export const XLHL_XMAX_LOCK_ONLY = 0x02;
export const XLHL_XMAX_EXCL_LOCK = 0x04;
export const XLHL_XMAX_KEYSHR_LOCK = 0x08;
export const XLHL_KEYS_UPDATED = 0x10;

export const SizeOfHeapInsert = 3;
export const SizeOfHeapMultiInsert = 4;
export const SizeOfMultiInsertTuple = 7;
export const SizeOfHeapHeader = 5;
export const SizeOfHeapUpdate = 14;
export const SizeOfHeapDelete = 8;
export const SizeOfHeapLock = 8;
export const SizeOfHeapConfirm = 2;
export const SizeOfHeapVisible = 5;

// Block ids. Servers before 18.6 and 17.11 do not register visibility map pages (but for VISIBLE).
export const HEAP_BLKREF_HEAP = 0;
export const HEAP_UPDATE_BLKREF_HEAP_NEW = 0;
export const HEAP_UPDATE_BLKREF_HEAP_OLD = 1;
export const HEAP_VISIBLE_BLKREF_VM = 0;
export const HEAP_VISIBLE_BLKREF_HEAP = 1;
