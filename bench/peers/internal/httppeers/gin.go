package httppeers

import (
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/mooncore/mooncore/bench/internal/wire"
	"github.com/mooncore/mooncore/bench/peers/internal/process"
)

type ginTask struct {
	Title    string   `json:"title" binding:"required,max=200"`
	Note     string   `json:"note" binding:"max=2000"`
	Priority int      `json:"priority" binding:"min=1,max=5"`
	Done     bool     `json:"done"`
	Tags     []string `json:"tags" binding:"max=10"`
}

// startGin validates by gin's binding.
func startGin(ln net.Listener) (wire.HTTP, error) {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.POST(path, func(c *gin.Context) {
		var t ginTask
		if err := c.ShouldBindJSON(&t); err != nil {
			c.JSON(http.StatusUnprocessableEntity, gin.H{"error": err.Error()})
			return
		}
		c.JSON(http.StatusOK, t)
	})
	process.ServeUntilExit(func() error { return r.RunListener(ln) })
	return post(path, ""), nil
}
