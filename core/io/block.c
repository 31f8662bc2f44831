/* SPDX-License-Identifier: MIT
 * Counted blocks, and those that are kept. */
#include "io/block.h"

#include "sys/lock.h"
#include "sys/sys.h"

enum { CLASSES = 3, KEPT_BYTES = 512 * 1024 };
static const size_t size_of[CLASSES] = {4096, 16384, 65536}; /* with the head */

static struct {
    tdl_lock lock;
    tdl_block *first; /* under the lock, through next */
    size_t n;
} kept[CLASSES] = {
    {.lock = TDL_LOCK_INIT(RANK_POOL)}, {.lock = TDL_LOCK_INIT(RANK_POOL)}, {.lock = TDL_LOCK_INIT(RANK_POOL)}};

static tdl_block *take_kept(uint32_t cls) {
    tdl_lock_take(&kept[cls].lock);
    tdl_block *b = kept[cls].first;
    if (b) {
        kept[cls].first = b->next;
        kept[cls].n--;
    }
    tdl_unlock(&kept[cls].lock);
    return b;
}

tdl_block *tdl_block_new(size_t want) {
    if (want > SIZE_MAX - sizeof(tdl_block)) return NULL;
    size_t size = want + sizeof(tdl_block);
    uint32_t cls = 0;
    while (cls < CLASSES && size > size_of[cls]) cls++;
    tdl_block *b = cls < CLASSES ? take_kept(cls) : NULL;
    if (cls < CLASSES) size = size_of[cls];
    if (!b && !(b = tdl_sys.alloc(size))) return NULL;
    at_store_rlx(&b->refs, 1);
    b->cls = cls;
    b->cap = size - sizeof *b;
    b->start = b->end = 0;
    return b;
}

void tdl_block_drop(tdl_block *b) {
    if (!tdl_block_alone(b) && at_sub_seq(&b->refs, 1) != 1) return;
    uint32_t cls = b->cls;
    bool keep = false;
    if (cls < CLASSES) {
        tdl_lock_take(&kept[cls].lock);
        keep = (kept[cls].n + 1) * size_of[cls] <= KEPT_BYTES;
        if (keep) {
            b->next = kept[cls].first;
            kept[cls].first = b;
            kept[cls].n++;
        }
        tdl_unlock(&kept[cls].lock);
    }
    if (!keep) tdl_sys.release(b);
}
