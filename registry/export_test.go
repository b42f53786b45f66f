package registry

// Empty reports whether the pool holds nothing at all, not even an empty tenant or channel.
func (p *Pool[T]) Empty() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, m := range p.members {
		if m != nil {
			return false
		}
	}
	return len(p.tenants) == 0 && len(p.free) == len(p.members)
}
